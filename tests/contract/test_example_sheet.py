from pathlib import Path

from paravert.sheet import read_sheet
from paravert.synthesis.volunteers import volunteers

REPOSITORY = Path(__file__).parents[2]


def test_the_example_sheet_is_the_built_in_cohort():
    rows = read_sheet(REPOSITORY / "config/subjects.tsv").rows
    people = volunteers(seed=2021)
    assert [row["subject"] for row in rows] == [person.subject for person in people]
    for row, person in zip(rows, people, strict=True):
        home = REPOSITORY / "results/phantoms" / person.subject
        assert Path(row["images"]).resolve() == home / "dicom"
        assert Path(row["truth"]).resolve() == home / "truth.nii.gz"
        assert row["sex"] == person.sex
        assert float(row["age_years"]) == person.age_years
        assert float(row["height_cm"]) == person.height_cm
        assert float(row["weight_kg"]) == person.weight_kg


def test_the_study_of_visits_has_six_volunteers_of_the_cohort_twice():
    rows = read_sheet(REPOSITORY / "config/visits.tsv").rows
    people = {person.subject: person for person in volunteers(seed=2021)}
    assert len(rows) == 12
    assert {row["sex"] for row in rows} == {"F", "M"}
    for number, row in enumerate(rows):
        person = people[row["subject"]]
        assert row["visit"] == str(1 + number % 2)
        scan = person.subject + "_2" * (number % 2)
        assert Path(row["images"]) == REPOSITORY / "results/visits/phantoms" / scan / "dicom"
        assert (row["sex"], float(row["age_years"])) == (person.sex, person.age_years)
