# The built-in cohort.
#   NEEDS  a seed
#   MAKES  results/phantoms/: per volunteer DICOM files and a manual mask, truth.parquet, subjects.tsv


rule make_phantoms:
    output:
        f"{PHANTOM_FOLDER}/truth.parquet",
        f"{PHANTOM_FOLDER}/subjects.tsv",
    log:
        "results/logs/make_phantoms.log",
    benchmark:
        "results/benchmarks/make_phantoms.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 16
    resources:
        mem_mb=lambda wildcards, threads, attempt: attempt * (500 + 500 * threads),
        runtime=lambda wildcards, attempt: attempt * 30,
    params:
        subjects=options("subject", phantoms_at_hand(s for shard in SHARDS.values() for s in shard)),
        seed=config["make_phantoms"]["seed"],
        volunteers=config["make_phantoms"]["volunteers"],
        code=code("synthesis.cohort"),
    message:
        "Drawing the phantom volunteers (a minute or two)"
    shell:
        "python -m paravert make_phantoms --out results/phantoms --seed {params.seed}"
        " --volunteers {params.volunteers} {params.subjects} --workers {threads} 2> {log}"
