import pytest

from paravert import provenance

SOURCE = '''
"""A module."""
from paravert.below import share


def answer(x):
    """Return x and its share."""
    # a comment
    return x + share(x)


COLUMN = Column("csa", meaning="area")
'''
BELOW = "def share(x):\n    return x / 2\n"


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    def of(source=SOURCE, below=BELOW, beside=""):
        folder = tmp_path / "paravert"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "above.py").write_text(source)
        (folder / "below.py").write_text(below)
        (folder / "beside.py").write_text(beside)
        monkeypatch.setattr(provenance, "_ROOT", tmp_path)
        for function in ("code_fingerprint", "_closure", "_module"):
            getattr(provenance, function).cache_clear()
        return provenance.code_fingerprint("above")

    yield of
    monkeypatch.undo()
    for function in ("code_fingerprint", "_closure", "_module"):
        getattr(provenance, function).cache_clear()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another comment"),
        ("Return x and its share.", "Give x and its share."),
        ("A module.", "The module."),
        ('meaning="area"', 'meaning="area in the plane"'),
        ("x + share(x)", "(x\n        + share(x))"),
    ],
)
def test_prose_and_layout_change_no_fingerprint(fingerprint, old, new):
    assert old in SOURCE
    assert fingerprint() == fingerprint(SOURCE.replace(old, new))


def test_logic_changes_the_fingerprint(fingerprint):
    assert fingerprint() != fingerprint(SOURCE.replace("x + ", "x - "))


def test_logic_of_an_imported_module_changes_the_fingerprint(fingerprint):
    assert fingerprint() != fingerprint(below=BELOW.replace("/ 2", "/ 3"))


def test_logic_of_another_module_does_not(fingerprint):
    assert fingerprint() == fingerprint(beside="x = 1")


def test_otsu_code_is_behind_the_fat_fraction_and_not_behind_the_labels():
    def behind(module):
        return provenance._closure(f"paravert.{module}")

    assert "paravert.measure.fat" in behind("measure.fat")
    for module in ("network.segment", "measure.area", "imaging.convert", "measure.overlap"):
        assert "paravert.measure.fat" not in behind(module)


def test_the_state_of_a_folder_follows_its_files(tmp_path):
    folder = tmp_path / "images"
    assert provenance.state_of(folder) == "absent"
    folder.mkdir()
    states = {provenance.state_of(folder)}
    (folder / "a").write_text("1")
    states.add(provenance.state_of(folder))
    (folder / "a").write_text("12")
    states.add(provenance.state_of(folder))
    (folder / "a").rename(folder / "b")
    states.add(provenance.state_of(folder))
    assert len(states) == 4


def test_a_linked_folder_is_followed_and_a_circle_of_links_ends(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a").write_text("1")
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "series").symlink_to(tmp_path / "elsewhere")
    (folder / "series/circle").symlink_to(folder)
    found = [str(path.relative_to(folder)) for path in provenance.files_below(folder)]
    assert found == ["series/a"]
    before = provenance.state_of(folder)
    (tmp_path / "elsewhere/a").write_text("12")
    assert provenance.state_of(folder) != before


def test_a_link_that_leads_nowhere_is_found_and_its_target_awaited(tmp_path):
    link = tmp_path / "images/a"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "a")
    assert provenance.files_below(link.parent) == [link]
    before = provenance.state_of(link.parent)
    (tmp_path / "a").write_text("fetched")
    assert provenance.state_of(link.parent) != before


def test_the_version_alone_changes_no_fingerprint():
    assert "paravert" not in provenance._closure("paravert.imaging.convert")
