import os

from data_prep.sources.figures.unimed import UniMed
from tests.data_prep.folders import jpeg
from tests.data_prep.sources.figures.test_unimed import items_of, write_part


def test_a_unit_stays_what_it_was_when_others_come(tmp_path):
    """Marks go by name and size: of the tar alone, where the fingerprint is of all."""
    write_part(tmp_path, (jpeg(1), "a"), tar="b.tar")
    source = UniMed(str(tmp_path))
    (alone,), fingerprint = source.units(), source.fingerprint()
    write_part(tmp_path, (jpeg(2), "b"), tar="a.tar")
    source = UniMed(str(tmp_path))
    assert [(unit.selection, unit.number) for unit in source.units()] == [("a.tar", 0), ("b.tar", 1)]
    assert source.units()[1].fingerprint == alone.fingerprint
    assert source.fingerprint() != fingerprint
    write_part(tmp_path, *[(jpeg(n), "a") for n in range(20)], tar="b.tar")
    assert UniMed(str(tmp_path)).units()[1].fingerprint != alone.fingerprint


def test_tars_that_are_no_files_of_the_folder(tmp_path):
    """Links that leave, pipes and devices are drops by name; a link inside the folder is read."""
    write_part(tmp_path / "in", (jpeg(1), "Spindle cells."), tar="a.tar")
    (tmp_path / "in" / "b.tar").symlink_to("a.tar")
    (tmp_path / "out.tar").write_bytes((tmp_path / "in" / "a.tar").read_bytes())
    (tmp_path / "in" / "c.tar").symlink_to(tmp_path / "out.tar")
    (tmp_path / "in" / "d.tar").symlink_to("/dev/zero")
    (tmp_path / "in" / "e.tar").symlink_to("/nowhere/e.tar")
    (tmp_path / "in" / "f.tar").symlink_to("f.tar")
    os.mkfifo(tmp_path / "in" / "g.tar")
    source = UniMed(str(tmp_path / "in"))
    assert source.fingerprint() == UniMed(str(tmp_path / "in")).fingerprint()
    items = items_of(source)
    assert [len(item.images) for item in items[:2]] == [1, 1]
    assert [(item.name, item.reason) for item in items[2:]] == [(f"{letter}.tar", "bad_path") for letter in "cdefg"]
