import re
from pathlib import Path

from mappings.engine import csv_compile, csv_file, csv_functions
from mappings.engine.model import Profile
from tasks.convert.csv import CsvConverter

PAGE = (Path(__file__).parents[3] / "docs" / "csv-mapping.md").read_text()


def test_the_example_on_the_page_is_a_map(tmp_path):
    path = tmp_path / "example.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    assert CsvConverter(Profile("p", str(path), "UTC")).version


def test_every_key_and_every_function_stands_on_the_page():
    words = {*csv_file._FILE, *csv_file._COLUMN, *csv_file._TOP, *csv_compile._RESOURCE, *csv_functions.FUNCTIONS}
    missing = {word for word in words if not re.search(rf"(?<![\w-]){word}(?![\w-])", PAGE)}
    assert missing == set()


def test_every_finding_stands_on_the_page():
    root = Path(__file__).parents[3]
    sources = [*(root / "tasks/parse").glob("csv*.py"), *(root / "mappings/engine").glob("csv*.py")]
    codes = {code for path in sources for code in re.findall(r'Finding\(f?"([a-z-]+[a-z])', path.read_text())}
    codes |= set(re.findall(r'"(not-an?-\w+)"', (root / "mappings/engine/csv_types.py").read_text()))
    assert codes
    assert {code for code in codes if code not in PAGE} == set()
