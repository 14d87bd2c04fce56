"""Writes the report of a study: one HTML file that needs no other file."""

import base64
import datetime
import io
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow.parquet as pq
import typer
import yaml
from markupsafe import Markup
from PIL import Image

from paravert import codebook
from paravert.anatomy import USUAL_LUMBAR
from paravert.measure.sagittal_picture import read_sagittal_lines
from paravert.outputs import FIGURES, MODEL_TABLES, TABLES, Output
from paravert.sheet import N_LUMBAR
from paravert.study import report_tables
from paravert.study.accuracy import NO_AREAS, NO_HELD_OUT
from paravert.study.centiles import too_few
from paravert.study.cohort import EXCLUDED
from paravert.study.data_frames import read_csv, read_frame, read_metadata
from paravert.study.fat_words import fat_note
from paravert.study.flags import flag_counts
from paravert.study.methods import methods_paragraph
from paravert.study.reliability import MASKS, RATERS, VISITS
from paravert.study.report_tables import DASH, as_html
from paravert.study.result_tables import FEWER, basis_sentences, is_suppressed
from paravert.study.scans import first_scans, in_order_of_visits, scan_names
from paravert.study.summary import counted, plural, subjects_in_sheet
from paravert.study.templates import TEMPLATES, html_template
from paravert.subject_folder import REVIEW_FOLDER, SAGITTAL_PICTURE, SubjectFolder
from paravert.tables import whole_file

log = logging.getLogger(__name__)

TITLE = "Lumbar paravertebral muscles"
NOTICE = "For research only: not a medical device, never for the care of a patient."
MOST_PREVIEWS = 200
MOST_QUARANTINED = 1000  # rows; all of them are in the ledger
LARGEST_SVG_BYTES = 2_000_000  # of larger figures the PNG is shown: browsers grow slow
PREVIEW_WIDTH_PX, PREVIEW_QUALITY = 760, 72
LEVEL_GAP = 18  # between names of levels beside a sagittal picture, pixels of it
SECTIONS = {
    "run": "What was run",
    "methods": "Methods",
    "subjects": "Subjects",
    "cohort": "Cohort",
    "network": "Network",
    "segmentations": "Segmentations",
    "accuracy": "Accuracy",
    "muscles": "Muscles",
    "agreement": "Agreement of areas",
    "values": "Normal values",
    "centiles": "Centiles",
    "comparisons": "Comparisons",
    "models": "Models",
    "fat": "Fat fraction by method",
    "review": "Flags and review by eye",
    "ledger": "Subjects not analysed, and warnings",
    "previews": "Previews",
    "configuration": "Configuration",
}
# Keys of the cohort tables' metadata, and their names in the report.
RUN = {"software_version": "paravert", "run_id": "Run", "model_sha256": "Model, SHA-256"}
MODEL_NOTICE = "model_notice"


# Captions that say what a fat fraction is: of what shows the first scan of each subject, or all scans.
FAT_OF_FIRST_SCANS = (
    *("cohort", "normal_values", "centiles", "fig6_fat_fraction", "along_spine", "distributions"),
)
FAT_OF_ALL_SCANS = (
    *("change", "visit_reliability", "contrasts", "models", "weighted_contrasts"),
    *("adjusted_means", "site_effects"),
)
# Figures of values over all slices, even if there are others at the standard level.
OVER_ALL_SLICES = {"adjusted_means", "site_effects", "specification_curve", "distributions"}


def write_report(
    cohort: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    tables: Annotated[Path, typer.Option(help="Folder of the study's CSV tables.")],
    figures: Annotated[Path, typer.Option(help="Folder of the figures.")],
    folder: Annotated[Path, typer.Option(help="Folder of the subjects with their previews.")],
    review: Annotated[Path, typer.Option(help="Folder of the review page.")],
    configuration: Annotated[Path, typer.Option(help="Resolved configuration (YAML).")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    study_name: Annotated[str, typer.Option(help="Name of the study, for the title.")] = "",
) -> None:
    """Write the report: tables, figures, ledger, previews and configuration in one HTML file.

    The file needs no other file and no network; an older one is replaced. Raises jinja2.UndefinedError
    if the template needs a variable that is not given, which would be a bug.
    """
    ledger = read_frame(cohort, codebook.LEDGER)
    overlap = read_frame(cohort, codebook.OVERLAP, ["subject"])
    metadata = read_metadata(cohort / "ledger.parquet")
    has_visits = "visit" in ledger
    scans = ledger.assign(subject=scan_names(ledger))
    analysed = scans[scans["status"] == "analysed"]
    previews, left_out = _read_previews(folder, scans)
    left_aside = scans[scans["status"] != "analysed"].sort_values("subject")
    settings = yaml.safe_load(configuration.read_text(encoding="utf-8"))
    people = read_frame(cohort, codebook.SUBJECT_TABLE)
    fat = fat_notes(people)
    coverage = _read_csv(tables, "level_coverage")
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    content = {
        "title": study_name or TITLE,
        "subtitle": TITLE if study_name else "",
        "notices": [metadata.get(MODEL_NOTICE) or NOTICE],
        "sections": list(SECTIONS.items()),
        "numbers": counts(ledger, overlap, subjects_in_sheet(metadata)),
        "run": [("Report of", date)]
        + [(name, metadata.get(key) or DASH) for key, name in RUN.items()],
        "figures": {
            name: {
                "name": name,
                "title": figure.title,
                "caption": _with_fat(name, _figure_caption(figure, figures, coverage), fat),
                "source": figure_uri(figures, name),
            }
            for name, figure in FIGURES.items()
        },
        "tables": _study_tables(tables)
        | {
            "change": as_html(
                report_tables.change_text(_read_csv(tables, "change")),
                empty="Values of single subjects are not in tables for sharing."
                if settings["write_tables"]["share_tables"]
                else "No subject with two analysed scans.",
            )
            if has_visits
            else "",
            "visit_reliability": _paired_reliability(_read_csv(tables, "reliability"), VISITS)
            or as_html(pd.DataFrame(), empty="No two subjects with two analysed scans.")
            if has_visits
            else "",
            "rater_reliability": _paired_reliability(_read_csv(tables, "reliability"), RATERS),
            "flags": as_html(report_tables.flags_text(flag_counts(ledger, settings["flags"]))),
            "failures": as_html(
                report_tables.failures_text(_read_csv(review, "failures")),
                empty="No scan that was drawn at random has been rated.",
            ),
            "raters": as_html(
                report_tables.raters_text(_read_csv(review, "raters")),
                empty="No scan has ratings of two raters.",
            ),
            "quarantined": as_html(
                report_tables.quarantined_text(left_aside[:MOST_QUARANTINED]), 2, "None."
            ),
            "warnings": as_html(report_tables.warnings_text(analysed), 1, "None."),
        },
        "captions": {
            name: _with_fat(name, _read_caption(table.caption), fat)
            for name, table in (TABLES | MODEL_TABLES).items()
        }
        | {
            "centiles": _with_fat("centiles", _read_caption("centiles_table"), fat),
            **{
                name: _with_fat(name, _read_caption(name), fat)
                for name in (
                    *("change", "visit_reliability", "rater_reliability", "flags", "failures"),
                    "raters",
                )
            },
        },
        "level_note": level_note(coverage),
        "methods": methods_paragraph(
            settings,
            metadata,
            ledger,
            people,
            _read_csv(tables, "models"),
            _read_csv(tables, "weighted_contrasts"),
            _read_csv(tables, "specification_curve"),
            _read_csv(tables, "table1_iou"),
            str(coverage["level_standard"].iloc[0]) if coverage["used"].any() else "",
            _level_sources(cohort),
            level_note(coverage),
        ),
        "contrasts": report_tables.contrast_texts(_read_csv(tables, "contrasts")),
        "weights": report_tables.weighted_texts(_read_csv(tables, "weighted_contrasts")),
        "models": report_tables.model_texts(_read_csv(tables, "models")),
        "quarantined_left_out": max(0, len(left_aside) - MOST_QUARANTINED),
        "previews": previews,
        "previews_left_out": left_out,
        "sagittal": sagittal_pictures(
            cohort,
            folder,
            ledger.assign(scan=scans["subject"]),
            list(dict.fromkeys(_read_csv(figures, "fig2_examples")["subject"])),
        ),
        "lumbar": lumbar_note(ledger),
        "configuration": configuration.read_text(encoding="utf-8").strip(),
    }
    with whole_file(out) as draft:
        draft.write_text(render(content), encoding="utf-8")
    log.info(
        "write_report: %s: %d KB, %d previews", out.name, out.stat().st_size // 1024, len(previews)
    )


def level_note(coverage: pd.DataFrame) -> str:
    """Return the sentence that says at which vertebral level areas are compared.

    coverage: level_coverage.csv of write_tables; the sentence is the first known value of its
    column note, "" if all are null.
    """
    notes = coverage["note"].dropna()
    return "" if notes.empty else str(notes.iloc[0])


def _level_sources(cohort: Path) -> set[str]:
    """Return the sources of the slices' levels."""
    name = "level_source"
    found = pq.read_table(cohort / "slices.parquet", columns=[name], read_dictionary=[name])
    return set(found[name].unique().to_pylist())


def _paired_reliability(reliability: pd.DataFrame, source: str) -> Markup:
    """Return the reliability between visits or raters as HTML; empty without these."""
    shown = report_tables.paired_reliability_text(reliability, source)
    own = report_tables.over_all_slices(reliability, source)
    return Markup("") if shown.empty else as_html(shown) + _basis_note(own)


def _figure_caption(figure: Output, figures: Path, coverage: pd.DataFrame) -> str:
    """Return the caption of a figure, of the models with the basis of what it shows.

    It says that scans cover different ranges, where values over all slices are compared.
    """
    told = [_read_caption(figure.caption)]
    if figure.name in MODEL_TABLES:
        told += basis_sentences(_read_csv(figures, figure.name))
    if figure.name in OVER_ALL_SLICES and not coverage["used"].any():
        told.append(level_note(coverage))
    return " ".join(filter(None, told))


def fat_notes(people: pd.DataFrame) -> dict[str, str]:
    """Return the note on fat fractions for captions of tables and figures, {name: note}.

    people: the cohort table `subjects`, one row per scan. The note (`fat_words.fat_note`) counts
    the first scan of each subject for the names FAT_OF_FIRST_SCANS, all scans for FAT_OF_ALL_SCANS.
    """
    shown = {FAT_OF_ALL_SCANS: people, FAT_OF_FIRST_SCANS: first_scans(people)}
    return {
        name: fat_note(scans["fat_fraction_method"])
        for names, scans in shown.items()
        for name in names
    }


def _with_fat(name: str, caption: str, notes: Mapping[str, str]) -> str:
    """Return a caption, with the note on fat fractions if there is one by this name."""
    return f"{caption} {notes.get(name, '')}".strip()


def _basis_note(table: pd.DataFrame) -> Markup:
    """Return the paragraph that says what the numbers of a table rest on; empty if nothing does."""
    sentences = basis_sentences(table)
    return Markup('<p class="none">{}</p>').format(" ".join(sentences)) if sentences else Markup("")


def _study_tables(folder: Path) -> dict[str, str]:
    """Return the study's tables as HTML by name."""
    centiles = pd.read_parquet(folder / "centiles.parquet")
    nobody, no_masks = {"empty": "No analysed subjects."}, {"empty": f"{NO_HELD_OUT}."}
    no_areas = {"empty": f"{NO_AREAS}."}
    no_pair = {"empty": "Fewer than two held-out subjects have a manual mask."}
    shown = {
        "table1_iou": (report_tables.table1_text, no_masks),
        "cohort": (report_tables.cohort_text, nobody),
        "selection": (report_tables.selection_text, {"empty": "No subjects."}),
        "agreement": (report_tables.agreement_text, no_areas),
        "reliability": (report_tables.reliability_text, no_pair),
        "level_coverage": (report_tables.level_coverage_text, nobody),
        "normal_values": (report_tables.normal_values_text, nobody | {"prose": 1}),
        "published_values": (report_tables.published_values_text, {"prose": 2}),
        "claims": (report_tables.claims_text, {"prose": 2}),
        "fat_methods": (report_tables.fat_methods_text, {"prose": 2}),
        "specification_curve": (
            report_tables.specification_text,
            {"empty": "No model of the fat fraction was fitted."},
        ),
    }
    found = {}
    for name, (in_words, options) in shown.items():
        table = _read_csv(folder, name)
        own = report_tables.over_all_slices(table, MASKS) if name == "reliability" else table
        if is_suppressed(table):
            options = options | {"empty": f"Not shown: {FEWER}."}
        found[name] = as_html(in_words(table), **options) + _basis_note(own)
    of_centiles = as_html(report_tables.centiles_text(centiles), empty=too_few(centiles))
    fitted = centiles[centiles["value"].notna()]
    return found | {"centiles": of_centiles + _basis_note(fitted)}


def _read_csv(folder: Path, name: str) -> pd.DataFrame:
    return read_csv(folder / f"{name}.csv")


def render(content: dict) -> str:
    """Return the report as HTML text.

    content: {variable: value} for the template report.html.j2; text is escaped, Markup is not.
    Raises jinja2.UndefinedError if a variable of the template is missing.
    """
    return html_template("report.html.j2").render(content)


def counts(
    ledger: pd.DataFrame, overlap: pd.DataFrame, in_sheet: int | None = None
) -> list[tuple[str, str]]:
    """Return the numbers at the head of the report: [(number as text, what it counts)].

    ledger: the cohort table `ledger`, one row per scan of the sheet. overlap: the cohort table
    `overlap`; its column subject names the subjects with a manual mask. in_sheet: number of subjects of
    the whole sheet, if the run was told to take some of them; None: it took all. In this order:
    subjects; with visits, also scans; analysed, quarantined and, if there are any, excluded after
    review (with visits, these are scans); subjects with a manual mask.
    """
    subjects, scans = ledger["subject"].nunique(), len(ledger)
    taken = "in the sheet" if in_sheet is None else f"selected (of {in_sheet:,} in the sheet)"
    first = (f"{subjects:,}", f"{plural(subjects, 'subject')} {taken}")
    masks = overlap["subject"].nunique()
    status = ledger["status"].value_counts()
    excluded = [(f"{status[EXCLUDED]:,}", "excluded after review")] if EXCLUDED in status else []
    if "visit" in ledger:
        analysed, quarantined = status.get("analysed", 0), status.get("quarantined", 0)
        where = "in the sheet" if in_sheet is None else "selected"
        return [
            first,
            (f"{scans:,}", f"{plural(scans, 'scan')} {where}"),
            (f"{analysed:,}", f"{plural(analysed, 'scan')} analysed"),
            (f"{quarantined:,}", f"{plural(quarantined, 'scan')} quarantined"),
            *excluded,
            (f"{masks:,}", f"{plural(masks, 'subject')} with a manual mask"),
        ]
    return [
        first,
        (f"{status.get('analysed', 0):,}", "analysed"),
        (f"{status.get('quarantined', 0):,}", "quarantined"),
        *excluded,
        (f"{masks:,}", "with a manual mask"),
    ]


def lumbar_note(ledger: pd.DataFrame) -> str:
    """Return sentences on the number of lumbar vertebrae that the names of levels assume.

    ledger: the cohort table `ledger`, one row per scan. If scans have another number than five in
    its column n_lumbar, a sentence counts them.
    """
    told = (
        ledger[N_LUMBAR].value_counts().sort_index() if N_LUMBAR in ledger else pd.Series(dtype=int)
    )
    unusual = {int(n): count for n, count in told.items() if n != USUAL_LUMBAR}
    note = (
        "Levels assume five lumbar vertebrae unless the sheet says otherwise (n_lumbar): in somebody with "
        "a transitional vertebra, which the lumbar images alone cannot exclude, all names may be one off."
    )
    listed = "; ".join(
        f"{n} lumbar vertebrae in {counted(count, 'scan')}" for n, count in unusual.items()
    )
    return f"{note} In this study: {listed}." if listed else note


def _read_caption(name: str) -> str:
    """Return the text of the caption workflow/report/<name>.rst, which Snakemake's report shows, too."""
    return (TEMPLATES / f"{name}.rst").read_text(encoding="utf-8").strip()


def sagittal_pictures(
    cohort: Path, folder: Path, scans: pd.DataFrame, subjects: Sequence[str]
) -> list[dict]:
    """Return sagittal pictures for the report, one dict per subject that has one.

    cohort: folder of the cohort tables. folder: contains a folder per scan. scans: the cohort table
    `ledger` with the name of the scan in a further column scan. subjects: names, in the order of
    the result; of each the first analysed scan (`in_order_of_visits`) with a sagittal picture is
    shown. Keys: scan; source (JPEG as data URI); size, [width, height]; lines, [x, y, x, y] of each
    axial slice that crosses the picture; names, [(level, y)], the height at which each level's name
    is written. Lengths are in pixels from the upper left corner.
    """
    if not subjects:
        return []
    keys = [name for name in ("subject", "visit") if name in scans]
    columns = [*keys, "stack_id", "slice", "level"]
    wanted = [("subject", "in", list(subjects))]
    slices = pq.read_table(cohort / "slices.parquet", columns=columns, filters=wanted).to_pandas()
    slices = slices.drop_duplicates(columns[:-1]).sort_values(columns[:-1])
    scans = in_order_of_visits(scans, scans)
    shown = []
    for subject in subjects:
        for row in scans[scans.subject == subject].to_dict("records"):
            found = read_sagittal_lines(folder / row["scan"])
            own = slices[(slices[keys] == [row[key] for key in keys]).all(axis=1)]
            if found and len(own) == len(found[1]):
                size, lines = found
                file = folder / row["scan"] / REVIEW_FOLDER / SAGITTAL_PICTURE
                source = _uri(file.read_bytes(), "image/jpeg")
                told = {"scan": row["scan"], "source": source, "size": size}
                names = _level_places(lines, own.level)
                shown.append(told | {"lines": [line for line in lines if line], "names": names})
                break
    return shown


def _level_places(
    lines: Sequence[list[float] | None], levels: Iterable[str | None]
) -> list[tuple[str, float]]:
    """Return the name of each level and its height in the sagittal picture, from head to feet."""
    heights: dict[str, list[float]] = {}
    for line, level in zip(lines, levels, strict=True):
        if line and isinstance(level, str):
            heights.setdefault(level, []).append(line[1])
    places, last = [], -math.inf
    for middle, level in sorted((sum(ys) / len(ys), level) for level, ys in heights.items()):
        last = max(middle, last + LEVEL_GAP)
        places.append((level, round(last, 1)))
    return places


def _read_previews(folder: Path, ledger: pd.DataFrame) -> tuple[list[dict[str, str]], int]:
    """Return the previews of analysed scans for the report, and how many are left out.

    folder: of the scans. ledger: the cohort table, names of scans in its column subject. Returns
    (at most MOST_PREVIEWS dicts with subject and source, a JPEG as data URI; number of further
    ones).
    """
    analysed = ledger.loc[ledger["status"] == "analysed", "subject"].sort_values()
    files = {subject: SubjectFolder(folder / subject).preview_file for subject in analysed}
    found = [(subject, file) for subject, file in files.items() if file.is_file()]
    shown = [{"subject": s, "source": _preview_uri(file)} for s, file in found[:MOST_PREVIEWS]]
    return shown, len(found) - len(shown)


# --- pictures inside the file --------------------------------------------------------------------


def figure_uri(folder: Path, stem: str) -> str:
    """Return a figure as data URI: its SVG, or its PNG if the SVG exceeds LARGEST_SVG_BYTES (2 MB).

    folder: of the figures. stem: name of the figure's files without suffix. Raises
    FileNotFoundError if the SVG is missing, or a PNG that is needed.
    """
    svg = folder / f"{stem}.svg"
    if svg.stat().st_size <= LARGEST_SVG_BYTES:
        return _uri(svg.read_bytes(), "image/svg+xml")
    return _uri((folder / f"{stem}.png").read_bytes(), "image/png")


def _preview_uri(path: Path) -> str:
    """Return a picture file as data URI: JPEG, at most PREVIEW_WIDTH_PX wide, without metadata."""
    with Image.open(path) as picture:
        reduced = picture.convert("RGB")
    reduced.thumbnail((PREVIEW_WIDTH_PX, 10 * PREVIEW_WIDTH_PX))
    buffer = io.BytesIO()
    reduced.save(buffer, format="JPEG", quality=PREVIEW_QUALITY, optimize=True)
    return _uri(buffer.getvalue(), "image/jpeg")


def _uri(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
