import uuid

from hypothesis import given
from hypothesis import strategies as st

from mappings.engine.ids import NAMESPACE, resource_id


@given(parts=st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=5))
def test_an_id_is_the_version_5_uuid_of_its_parts_with_their_lengths(parts):
    assert resource_id(*parts) == str(uuid.uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)))
