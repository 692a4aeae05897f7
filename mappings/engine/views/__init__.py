"""SQL on FHIR v2 ViewDefinitions: compiled to Python closures and to Postgres SQL from one resolved tree."""

from mappings.engine.views.errors import ViewError
from mappings.engine.views.postgres import column_type
from mappings.engine.views.view import View, compile_view

__all__ = ["View", "ViewError", "column_type", "compile_view"]
