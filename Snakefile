from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/input.smk"


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/synthesis.smk"
include: "workflow/rules/imaging.smk"
include: "workflow/rules/network.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/study.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        "results/report.html",
        "results/summary.txt",


# An extra: `snakemake all_dicomseg` writes the labels as DICOM segmentations (targets stand before
# options: `snakemake all_dicomseg --configfile FILE`).
rule all_dicomseg:
    input:
        shard_outputs("dicomseg"),


onstart:
    start_on_slurm()


onsuccess:
    tell_summary()


onerror:
    tell_summary()
