# From scanner files to checked volumes.
#   NEEDS  the images and masks that the sheet names
#   MAKES  per shard convert.parquet; per subject image/, truth/, truth2/, given/, slices.parquet, status.json


rule convert_dicom:
    input:
        phantoms=phantoms_of_shard,
    output:
        "<results>/shards/{shard}/convert.parquet",
    log:
        "<results>/logs/convert_dicom/{shard}.log",
    benchmark:
        "<results>/benchmarks/convert_dicom/{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb("convert_dicom"),
        runtime=minutes("convert_dicom"),
    params:
        results=results_folder,
        sheet=RUN_SHEET,
        subjects=lambda wildcards: options("subject", SHARDS[wildcards.shard]),
        series=lambda wildcards: options(
            "series-description", config["convert_dicom"]["series_description"]
        ),
        labels_from=options("labels-from", [as_option(config["convert_dicom"]["labels_from"])]),
        version=steps.VERSIONS["convert_dicom"],
    message:
        "Converting the images of shard {wildcards.shard}"
    shell:
        "python -m paravert convert_dicom --sheet {params.sheet:q} {params.subjects} {params.series}"
        " {params.labels_from} --folder {params.results}/subjects --out {output} --workers {threads} 2> {log}"
