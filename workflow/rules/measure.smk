# What is measured in the labels of each subject.
#   NEEDS  segment.parquet and the stacks behind it
#   MAKES  per shard area.parquet, fat.parquet, overlap.parquet, preview.parquet;
#          per subject preview.png;
#          with the target all_dicomseg also dicomseg.parquet and, per subject, dicomseg/


rule measure_area:
    input:
        segment=table_before("measure_area"),
    output:
        "results/shards/{shard}/area.parquet",
    log:
        "results/logs/measure_area/{shard}.log",
    benchmark:
        "results/benchmarks/measure_area/{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb("measure_area"),
        runtime=minutes("measure_area"),
    params:
        version=steps.VERSIONS["measure_area"],
    message:
        "Measuring areas in shard {wildcards.shard}"
    shell:
        "python -m paravert measure_area --segment {input.segment} --folder results/subjects"
        " --out {output} --workers {threads} 2> {log}"


rule measure_fat:
    input:
        segment=table_before("measure_fat"),
    output:
        "results/shards/{shard}/fat.parquet",
    log:
        "results/logs/measure_fat/{shard}.log",
    benchmark:
        "results/benchmarks/measure_fat/{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb("measure_fat"),
        runtime=minutes("measure_fat"),
    params:
        version=steps.VERSIONS["measure_fat"],
    message:
        "Measuring fat fractions in shard {wildcards.shard}"
    shell:
        "python -m paravert measure_fat --segment {input.segment} --folder results/subjects"
        " --out {output} --workers {threads} 2> {log}"


rule score_overlap:
    input:
        segment=table_before("score_overlap"),
    output:
        "results/shards/{shard}/overlap.parquet",
    log:
        "results/logs/score_overlap/{shard}.log",
    benchmark:
        "results/benchmarks/score_overlap/{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb("score_overlap"),
        runtime=minutes("score_overlap"),
    params:
        version=steps.VERSIONS["score_overlap"],
    message:
        "Scoring shard {wildcards.shard} against manual masks"
    shell:
        "python -m paravert score_overlap --segment {input.segment} --folder results/subjects"
        " --out {output} --workers {threads} 2> {log}"


rule draw_preview:
    input:
        segment=table_before("draw_preview"),
    output:
        "results/shards/{shard}/preview.parquet",
    log:
        "results/logs/draw_preview/{shard}.log",
    benchmark:
        "results/benchmarks/draw_preview/{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb("draw_preview"),
        runtime=minutes("draw_preview"),
    params:
        version=steps.VERSIONS["draw_preview"],
    message:
        "Drawing previews of shard {wildcards.shard}"
    shell:
        "python -m paravert draw_preview --segment {input.segment} --folder results/subjects"
        " --out {output} --workers {threads} 2> {log}"


# An extra, no part of the study: `snakemake all_dicomseg` asks for it.
rule dicomseg:
    input:
        segment=table_before("dicomseg"),
    output:
        "results/shards/{shard}/dicomseg.parquet",
    log:
        "results/logs/dicomseg/{shard}.log",
    benchmark:
        "results/benchmarks/dicomseg/{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb("dicomseg"),
        runtime=minutes("dicomseg"),
    params:
        sha256=config["model"]["sha256"],
        version=steps.VERSIONS["dicomseg"],
    message:
        "Writing DICOM segmentations of shard {wildcards.shard}"
    shell:
        "python -m paravert dicomseg --segment {input.segment} --folder results/subjects"
        " --model-sha256 {params.sha256} --out {output} --workers {threads} 2> {log}"
