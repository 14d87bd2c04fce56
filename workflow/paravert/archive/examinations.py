"""Groups the files of an archive by person and examination; finds a folder for each examination."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from paravert.archive.index import Study
from paravert.errors import Reason, SubjectFault

DICOM, NIFTI = "dicom", "nifti"


class Person(NamedTuple):
    """The identity of a person in the archive.

    source: dicom or nifti. patient_id: PatientID (0010,0020), or the subject in the path of a NIfTI
    file. issuer: IssuerOfPatientID (0010,0021), see `group_examinations` where it is absent; "" if
    unknown. lone: "" for a person with a PatientID. Without one, the name of the examination:
    nothing links it to others, so each such examination is a person of its own.
    """

    source: str
    patient_id: str
    issuer: str
    lone: str = ""


@dataclass
class Examination:
    """The files of one person and one StudyInstanceUID (0020,000D).

    person: the patient. name: StudyInstanceUID; without one, the folder (`printable`); of NIfTI
    files the visit in their path, "" if the pattern has none.
    places: pairs (identifiers in the headers, folder) of all its files. image_folders: folders of
    its images. own_folders: image folders, and folders above them, that hold no image of another
    examination. These three are empty for NIfTI. fault: mixed-patients or multiple-studies if
    `folder` also holds images of other examinations; otherwise None.
    """

    person: Person
    name: str
    places: list[tuple[Study, str]] = field(default_factory=list)
    image_folders: set[str] = field(default_factory=set)
    own_folders: frozenset[str] = frozenset()
    fault: SubjectFault | None = None

    @property
    def folder(self) -> str:
        """The deepest folder that holds all its images, or all its files if none is an image.

        ValueError for NIfTI.
        """
        return os.path.commonpath(self.image_folders or {folder for _, folder in self.places})


def printable(path: str) -> str:
    r"""Return a path that a text file can hold: bytes that are not UTF-8 are written such as \xfc.

    path: as the operating system gives it, with surrogates for such bytes.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def group_examinations(found: Mapping[Study, Mapping[str, int]], archive: str) -> list[Examination]:
    """Return the DICOM examinations in an archive, sorted by person and name of the examination.

    found: {identifiers in the headers: {folder: number of images there}}, from `Index.folders`.
    archive: path of the archive's folder, which the folders in `found` begin with. Equal PatientIDs
    are one person if IssuerOfPatientID is the same, or is absent and only one issuer is known for
    this PatientID. Files without PatientID belong to the person of their StudyInstanceUID, if there is
    exactly one. Files without StudyInstanceUID belong to the examination of the same person that
    has images in their folder, if there is exactly one; otherwise those of a person in a folder are
    an examination of their own.
    """
    owners = _owners(found)
    made: dict[tuple[Person, str], Examination] = {}
    without_uid = []
    for study, folders in sorted(found.items()):
        patient_id, issuer = owners[study]
        for folder, images in sorted(folders.items()):
            if study.study:
                person = _person(patient_id, issuer, study.study)
                _add(made, person, study.study, study, folder, images)
            else:
                without_uid.append((issuer, study, folder, images))
    for issuer, study, folder, images in without_uid:
        own_name = printable(folder)
        person = _person(study.patient_id, issuer, own_name)
        there = [e for e in made.values() if e.person == person and folder in e.image_folders]
        name = there[0].name if len(there) == 1 else own_name
        _add(made, person, name, study, folder, images)
    examinations = [made[key] for key in sorted(made)]
    _find_own_folders(examinations, archive)
    return examinations


def _owners(found: Iterable[Study]) -> dict[Study, tuple[str, str]]:
    """Return the PatientID and issuer of each, of those that lack them as far as the others tell."""
    issuers: dict[str, set[str]] = defaultdict(set)
    for study in found:
        issuers[study.patient_id] |= {study.issuer} - {""}
    owners = {}
    by_study: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for study in found:
        known = issuers[study.patient_id]
        issuer = study.issuer or (next(iter(known)) if len(known) == 1 else "")
        owners[study] = study.patient_id, issuer
        if study.patient_id:
            by_study[study.study].add(owners[study])
    for study in found:
        same = by_study[study.study] if study.study and not study.patient_id else ()
        if len(same) == 1:
            (owners[study],) = same
    return owners


def _person(patient_id: str, issuer: str, examination: str) -> Person:
    return Person(DICOM, patient_id, issuer, "" if patient_id else examination)


def _add(
    made: dict[tuple[Person, str], Examination],
    person: Person,
    name: str,
    study: Study,
    folder: str,
    images: int,
) -> None:
    examination = made.setdefault((person, name), Examination(person, name))
    examination.places.append((study, folder))
    if images:
        examination.image_folders.add(folder)


def _find_own_folders(examinations: list[Examination], archive: str) -> None:
    """Fill in `own_folders` and `fault`."""
    # By folder, the examinations with images in or below it.
    within: dict[str, set[int]] = defaultdict(set)
    for number, examination in enumerate(examinations):
        for folder in examination.image_folders:
            for place in _upwards(folder, archive):
                within[place].add(number)
    for number, examination in enumerate(examinations):
        folders = {p for f in examination.image_folders for p in _upwards(f, archive)}
        examination.own_folders = frozenset(f for f in folders if within[f] == {number})
        if examination.image_folders and examination.folder not in examination.own_folders:
            others = {examinations[other].person for other in within[examination.folder]}
            examination.fault = _shared(examination, mixed=len(others) > 1)


def _upwards(folder: str, archive: str) -> list[str]:
    """Return a folder and those above it, up to the archive."""
    places = [folder]
    while places[-1] != archive and len(places[-1]) > len(archive):
        places.append(os.path.dirname(places[-1]))
    return places


def _shared(examination: Examination, *, mixed: bool) -> SubjectFault:
    whose = "of other people" if mixed else "of the same person"
    own = examination.own_folders
    where = "the folder that holds its images"
    if examination.image_folders <= own:  # such as two copies in the exports of two days
        apart = sum(os.path.dirname(folder) not in own for folder in own)
        where = f"its images are in {apart} folders of its own, and the one above them"
    return SubjectFault(
        Reason.MIXED_PATIENTS if mixed else Reason.MULTIPLE_STUDIES,
        f"{where} also holds examinations {whose}, expected one folder of its own",
    )
