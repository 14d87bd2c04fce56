from paravert import provenance


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
