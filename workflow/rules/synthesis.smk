# The built-in phantom cohort, and the anatomy from which training slices are drawn.
#   NEEDS  a seed
#   MAKES  results/phantoms/: per volunteer DICOM files and a manual mask, truth.parquet, subjects.tsv;
#          results/anatomies/: label maps of other synthetic people

ANATOMIES = {
    "training": {
        "people": config["draw_anatomies"]["training_people"],
        "seed": config["draw_anatomies"]["training_seed"],
    },
    "validation": {
        "people": config["draw_anatomies"]["validation_people"],
        "seed": config["draw_anatomies"]["validation_seed"],
    },
}


rule make_phantoms:
    output:
        f"{PHANTOM_FOLDER}/truth.parquet",
        f"{PHANTOM_FOLDER}/subjects.tsv",
    log:
        "<results>/logs/make_phantoms.log",
    benchmark:
        "<results>/benchmarks/make_phantoms.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 16
    resources:
        mem_mb=lambda wildcards, threads, attempt: attempt * (500 + 500 * threads),
        runtime=lambda wildcards, attempt: attempt * 30,
    params:
        results=results_folder,
        subjects=options("subject", phantoms_at_hand(s for shard in SHARDS.values() for s in shard)),
        seed=config["make_phantoms"]["seed"],
        volunteers=config["make_phantoms"]["volunteers"],
        version=steps.VERSIONS["make_phantoms"],
    message:
        "Drawing the phantom volunteers (a minute or two)"
    shell:
        "python -m paravert make_phantoms --out {params.results}/phantoms --seed {params.seed}"
        " --volunteers {params.volunteers} {params.subjects} --workers {threads} 2> {log}"


rule draw_anatomies:
    output:
        "<results>/anatomies/{part}.parquet",
    log:
        "<results>/logs/draw_anatomies/{part}.log",
    benchmark:
        "<results>/benchmarks/draw_anatomies/{part}.tsv"
    wildcard_constraints:
        part="training|validation",
    conda:
        "../../envs/cpu.yaml"
    threads: 16
    resources:
        mem_mb=lambda wildcards, threads, attempt: attempt * (500 + 300 * threads),
        runtime=lambda wildcards, attempt: attempt * 30,
    params:
        people=lambda wildcards: ANATOMIES[wildcards.part]["people"],
        seed=lambda wildcards: ANATOMIES[wildcards.part]["seed"],
        version=steps.VERSIONS["draw_anatomies"],
    message:
        "Drawing the anatomy for {wildcards.part}"
    shell:
        "python -m paravert draw_anatomies --out {output} --people {params.people}"
        " --seed {params.seed} --workers {threads} 2> {log}"
