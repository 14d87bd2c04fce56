from snakemake.utils import min_version

min_version("9.0")


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


onsuccess:
    tell_summary()


onerror:
    tell_summary()
