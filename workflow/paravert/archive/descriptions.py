"""Proposes patterns for SeriesDescription that choose one of several axial series of an examination."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paravert.archive.assessment import Candidate
from paravert.imaging.series import matching_series
from paravert.tables import PD, STIR, T1, T2

MOST_PATTERNS = 20
PREFERRED = (
    T2,
    T1,
    PD,
    STIR,
)  # among patterns that settle equally many subjects: the paper measures T2
SPECIAL = re.compile(r"([\\.^$*+?{}\[\]|()])")

Examination = tuple[Candidate, ...]  # its axial series
Kind = tuple[Examination, ...]  # examinations of a subject, often the same as another subject's


@dataclass(frozen=True)
class Pattern:
    """A pattern for SeriesDescription (0008,103E), with numbers of subjects.

    All subjects are those who have an examination with several axial series. Patterns settle a
    subject if they leave exactly one axial series in each such examination, and convert_dicom
    accepts it. text: the regular expression. sequence: the class, such as T1, that the series it
    matches have in most subjects, of equally frequent ones T2 before T1, PD, STIR and others.
    settles: how many more subjects are settled if it follows the patterns before it; 0 in
    Proposal.others. alone: number of subjects that it would settle as the only pattern. subjects:
    number of subjects with an axial series that it matches.
    """

    text: str
    sequence: str
    settles: int
    alone: int
    subjects: int


@dataclass(frozen=True)
class Proposal:
    """Patterns for the configuration that choose one of several axial series, with numbers of subjects.

    patterns: to configure, in this order. others: one pattern for each other description, by
    descending number of subjects. subjects: number of subjects with several axial series. settled:
    number of these for whom the patterns leave one series that convert_dicom accepts.
    """

    patterns: tuple[Pattern, ...]
    others: tuple[Pattern, ...]
    subjects: int
    settled: int

    @property
    def texts(self) -> tuple[str, ...]:
        """The regular expressions of `patterns`, in order."""
        return tuple(pattern.text for pattern in self.patterns)


def chosen_series(candidates: Sequence[Candidate], patterns: Sequence[str]) -> Candidate | None:
    """Return the axial series that convert_dicom would choose with these patterns, or None.

    candidates: axial series of an examination. patterns: regular expressions for SeriesDescription
    (0008,103E), tried in order while several series remain; each keeps those whose description it
    matches at any place (re.search), if there are any; case is ignored. Of a Dixon acquisition only
    `Candidate.description` is compared; convert_dicom compares the descriptions of all its parts.
    None if there is no series, if several remain, or if the one that remains is not accepted.
    """
    descriptions = {number: [c.description] for number, c in enumerate(candidates)}
    left = matching_series(descriptions, patterns)
    return candidates[left[0]] if len(left) == 1 and candidates[left[0]].accepted else None


def propose(examinations: Mapping[str, Sequence[Examination]]) -> Proposal:
    """Return patterns for SeriesDescription that settle many subjects, the best first.

    examinations: {subject: its examinations with several axial series, each a tuple of the
    `Candidate` of each of these series}, from `competing_series`. Each pattern matches one whole
    description, in any case; at most 20 patterns. Patterns settle a subject if they leave one
    series, which convert_dicom accepts, in each of these examinations. Method: greedy; the next
    pattern is the one that, after those before it, settles most of the subjects that are left, of
    equal ones T2 before T1, PD, STIR and others, then by the alphabet. It ends where no pattern
    alone settles one more. The order of the examinations does not matter.
    """
    kinds = Counter(tuple(sorted(set(e), key=repr)) for e in map(_alike, examinations.values()))
    having: dict[str, list[Kind]] = defaultdict(list)  # by pattern
    sequences: dict[str, Counter] = defaultdict(Counter)
    for kind, count in kinds.items():
        found = {(_pattern(candidate), candidate.sequence) for e in kind for candidate in e}
        for pattern, sequence in found:
            sequences[pattern][sequence] += count
        for pattern in {pattern for pattern, _ in found}:
            having[pattern].append(kind)
    likely = {pattern: _most_frequent(found) for pattern, found in sequences.items()}
    waiting = sorted(likely, key=lambda pattern: (_rank(likely[pattern]), pattern))

    def told(pattern: str, settles: int) -> Pattern:
        alone = sum(kinds[kind] for kind in having[pattern] if _is_settled(kind, [pattern]))
        subjects = sum(kinds[kind] for kind in having[pattern])
        return Pattern(pattern, likely[pattern], settles, alone, subjects)

    taken: list[Pattern] = []
    settled: set[Kind] = set()
    while waiting and len(taken) < MOST_PATTERNS:
        texts = [pattern.text for pattern in taken]
        gained = {
            # A further pattern changes nothing for subjects without a series that it matches.
            pattern: {k for k in having[pattern] if _is_settled(k, [*texts, pattern])} - settled
            for pattern in waiting
        }
        gains = {pattern: sum(kinds[kind] for kind in own) for pattern, own in gained.items()}
        best = max(waiting, key=gains.__getitem__)  # the first of those that are equal
        if not gains[best]:
            break
        settled |= gained[best]
        taken.append(told(best, gains[best]))
        waiting.remove(best)
    others = sorted((told(p, 0) for p in waiting), key=lambda pattern: -pattern.subjects)
    count = sum(kinds[kind] for kind in settled)
    return Proposal(tuple(taken), tuple(others), len(examinations), count)


def _alike(examinations: Sequence[Examination]) -> list[Examination]:
    """Return examinations without rows, in lower case and sorted, so that equal ones are counted."""
    return [
        tuple(
            Candidate((), text, sequence, accepted)
            for text, sequence, accepted in sorted(
                (_lower(c.description), c.sequence, c.accepted) for c in candidates
            )
        )
        for candidates in examinations
    ]


def _pattern(candidate: Candidate) -> str:
    escaped = SPECIAL.sub(r"\\\1", _lower(candidate.description))
    return f"^{escaped}$"


def _lower(text: str) -> str:
    """Return a text in lower case; the Turkish İ stays, as re.IGNORECASE does not match it with two letters."""
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


def _most_frequent(sequences: Counter[str]) -> str:
    return min(sequences, key=lambda name: (-sequences[name], _rank(name), name))


def _rank(sequence: str) -> int:
    return PREFERRED.index(sequence) if sequence in PREFERRED else len(PREFERRED)


def _is_settled(kind: Kind, patterns: Sequence[str]) -> bool:
    return all(chosen_series(examination, patterns) for examination in kind)


def as_configuration(proposal: Proposal) -> str:
    """Return the text of a configuration file (YAML) that sets convert_dicom.series_description.

    It lists the proposed patterns in order, [] without any, with counts of subjects as comments.
    """
    lines = [
        "# Proposed by paravert make_sheet: choose one of several axial series by SeriesDescription.",
        f"# {proposal.subjects} subjects have several axial series; these patterns settle "
        f"{proposal.settled} of them.",
        "# Read them before you use them: snakemake --configfile <this file>. Descriptions may hold names.",
        "convert_dicom:",
        "  series_description:" if proposal.patterns else "  series_description: []",
    ]
    for pattern in proposal.patterns:
        counts = (
            f"{pattern.sequence}; settles {pattern.settles} more subjects, {pattern.alone} alone"
        )
        lines.append(f"    - {_quoted(pattern.text)} # {counts}; {pattern.subjects} have it")
    if proposal.others:
        lines.append("# Other axial series of these subjects:")
    for pattern in proposal.others:
        counts = f"{pattern.sequence}; {pattern.alone} settled alone; {pattern.subjects} have it"
        lines.append(f"#   - {_quoted(pattern.text)} # {counts}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a text in double quotes as YAML reads it; of letters above U+FFFF JSON makes pairs."""
    escaped = (
        json.dumps(letter)[1:-1] if letter <= "\uffff" else f"\\U{ord(letter):08x}"
        for letter in text
    )
    return f'"{"".join(escaped)}"'
