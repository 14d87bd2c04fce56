# Measurements in the labels of each subject.
#   NEEDS  segment.parquet, and the stacks and labels of its subjects
#   MAKES  per shard area.parquet, fat.parquet, overlap.parquet, preview.parquet;
#          per subject preview.png;
#          with the target all_dicomseg also dicomseg.parquet and, per subject, dicomseg/


rule measure_area:
    input:
        segment=table_before("measure_area"),
    output:
        "<results>/shards/{shard}/<table>.parquet",
    log:
        "<results>/logs/<step>/{shard}.log",
    benchmark:
        "<results>/benchmarks/<step>/{shard}.tsv"
    pathvars:
        step="measure_area",
        table="area",
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb("measure_area"),
        runtime=minutes("measure_area"),
    params:
        results=results_folder,
        command="measure_area",
        options="",
        version=steps.VERSIONS["measure_area"],
    message:
        "Measuring areas in shard {wildcards.shard}"
    shell:
        "python -m paravert {params.command} --segment {input.segment} --folder {params.results}/subjects"
        " {params.options} --out {output} --workers {threads} 2> {log}"


use rule measure_area as measure_fat with:
    input:
        segment=table_before("measure_fat"),
    pathvars:
        step="measure_fat",
        table="fat",
    resources:
        mem_mb=memory_mb("measure_fat"),
        runtime=minutes("measure_fat"),
    params:
        command="measure_fat",
        version=steps.VERSIONS["measure_fat"],
    message:
        "Measuring fat fractions in shard {wildcards.shard}"


use rule measure_area as score_overlap with:
    input:
        segment=table_before("score_overlap"),
    pathvars:
        step="score_overlap",
        table="overlap",
    resources:
        mem_mb=memory_mb("score_overlap"),
        runtime=minutes("score_overlap"),
    params:
        command="score_overlap",
        version=steps.VERSIONS["score_overlap"],
    message:
        "Scoring shard {wildcards.shard} against manual masks"


use rule measure_area as draw_preview with:
    input:
        segment=table_before("draw_preview"),
        levels="<results>/shards/{shard}/levels.parquet",
    pathvars:
        step="draw_preview",
        table="preview",
    resources:
        mem_mb=memory_mb("draw_preview"),
        runtime=minutes("draw_preview"),
    params:
        command="draw_preview",
        options=lambda wildcards, input: options("levels", [input.levels]),
        version=steps.VERSIONS["draw_preview"],
    message:
        "Drawing previews of shard {wildcards.shard}"


# Optional: only the target all_dicomseg asks for it at first.
use rule measure_area as dicomseg with:
    input:
        segment=table_before("dicomseg"),
    pathvars:
        step="dicomseg",
        table="dicomseg",
    resources:
        mem_mb=memory_mb("dicomseg"),
        runtime=minutes("dicomseg"),
    params:
        command="dicomseg",
        options=f"--model-sha256 {config['model']['sha256']}"
        + (f" {options('sheet', [RUN_SHEET])}" if HAS_VISITS else ""),
        version=steps.VERSIONS["dicomseg"],
    message:
        "Writing DICOM segmentations of shard {wildcards.shard}"
