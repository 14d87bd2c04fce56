# The cohort: tables, models, figures, report.
#   NEEDS  the tables of every shard
#   MAKES  results/cohort/ (with the configured exports), results/tables/, results/figures/,
#          results/report.html, results/review/, summary.txt


rule gather_cohort:
    input:
        shards=shard_tables,
        model=ancient(model_file()),
        card=model_card(),
        ratings=config["review"]["ratings"],
    output:
        tables=kept(f"{RESULTS}/cohort/{table}.parquet" for table in COHORT),
        beside=kept(
            f"{RESULTS}/cohort/{name}"
            for name in ("codebook.csv", "datapackage.json", "configuration.yaml")
        ),
    log:
        "<results>/logs/gather_cohort.log",
    benchmark:
        "<results>/benchmarks/gather_cohort.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 4000,
        runtime=cohort_minutes("gather_cohort"),
    params:
        results=results_folder,
        sheet=RUN_SHEET,
        fat_fraction=config["gather_cohort"]["fat_fraction"],
        level_standard=config["gather_cohort"]["level_standard"],
        subjects_per_shard=config["subjects_per_shard"],
        subjects=lambda wildcards: options("subjects", filter(None, [str(config["subjects"])])),
        sha256=config["model"]["sha256"],
        configuration=configuration_json,
        ratings=options("ratings", config["review"]["ratings"]),
        rating_rule=config["review"]["rule"],
        made_from=lambda wildcards: cohort_made_from(),
        version=steps.VERSIONS["gather_cohort"],
    message:
        "Gathering the cohort"
    shell:
        "python -m paravert gather_cohort --sheet {params.sheet:q} --folder {params.results}/shards"
        " --out {params.results}/cohort --fat-fraction {params.fat_fraction}"
        " --level-standard {params.level_standard}"
        " --subjects-per-shard {params.subjects_per_shard} {params.subjects}"
        " --model {input.model:q} --model-sha256 {params.sha256}"
        " --configuration {params.configuration:q} {params.ratings} --rating-rule {params.rating_rule}"
        " 2> {log}"


rule export_tables:
    input:
        tables=expand("<results>/cohort/{table}.parquet", table=COHORT),
        datapackage="<results>/cohort/datapackage.json",
    output:
        exported(config["export"]),
    log:
        "<results>/logs/export_tables.log",
    benchmark:
        "<results>/benchmarks/export_tables.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * export_memory_mb(),
        runtime=cohort_minutes("export_tables"),
    params:
        results=results_folder,
        formats=options("formats", config["export"]),
        version=steps.VERSIONS["export_tables"],
    message:
        "Writing the cohort tables for other programs"
    shell:
        "python -m paravert export_tables --cohort {params.results}/cohort {params.formats}"
        " --out {params.results}/cohort 2> {log}"


rule accept_ledger:
    input:
        ledger="<results>/cohort/ledger.parquet",
    output:
        "<results>/summary.txt",
    log:
        "<results>/logs/accept_ledger.log",
    localrule: True  # takes a second: no cluster job
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        limit=config["max_quarantined_fraction"],
        version=steps.VERSIONS["accept_ledger"],
    message:
        "Counting the quarantined subjects"
    shell:
        "python -m paravert accept_ledger --ledger {input.ledger} --out {output}"
        " --max-quarantined-fraction {params.limit} 2> {log}"


rule fit_models:
    input:
        tables=expand("<results>/cohort/{table}.parquet", table=COHORT),
    output:
        [
            captioned(f"<results>/tables/{name}.csv", table, "Tables")
            for name, table in outputs.MODEL_TABLES.items()
        ],
    log:
        "<results>/logs/fit_models.log",
    benchmark:
        "<results>/benchmarks/fit_models.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 6000,
        runtime=cohort_minutes("fit_models"),
    params:
        results=results_folder,
        covariates=lambda wildcards: options("covariates", config["fit_models"]["covariates"]),
        level_standard=config["gather_cohort"]["level_standard"],
        quality_cut=config["fit_models"]["quality_cut"],
        share="--share-tables" if config["write_tables"]["share_tables"] else "",
        samples=config["write_tables"]["bootstrap_samples"],
        seed=config["seed"],
        version=steps.VERSIONS["fit_models"],
    message:
        "Fitting the models"
    shell:
        "python -m paravert fit_models --cohort {params.results}/cohort {params.covariates} {params.share}"
        " --level-standard {params.level_standard} --quality-cut {params.quality_cut}"
        " --out {params.results}/tables/models.csv --bootstrap-samples {params.samples} --seed {params.seed} 2> {log}"


rule fit_centiles:
    input:
        tables=expand("<results>/cohort/{table}.parquet", table=COHORT),
    output:
        centiles="<results>/tables/centiles.parquet",
        z_scores="<results>/tables/z_scores.csv",
    log:
        "<results>/logs/fit_centiles.log",
    benchmark:
        "<results>/benchmarks/fit_centiles.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 4000,
        runtime=cohort_minutes("fit_centiles"),
    params:
        results=results_folder,
        level_standard=config["gather_cohort"]["level_standard"],
        share="--share-tables" if config["write_tables"]["share_tables"] else "",
        seed=config["seed"],
        version=steps.VERSIONS["fit_centiles"],
    message:
        "Fitting the centiles"
    shell:
        "python -m paravert fit_centiles --cohort {params.results}/cohort --out {output.centiles} {params.share}"
        " --level-standard {params.level_standard} --seed {params.seed} 2> {log}"


rule write_tables:
    input:
        tables=expand("<results>/cohort/{table}.parquet", table=COHORT),
    output:
        [
            captioned(f"<results>/tables/{name}.csv", table, "Tables")
            for name, table in outputs.TABLES.items()
        ],
        ["<results>/tables/change.csv"] if HAS_VISITS else [],
    log:
        "<results>/logs/write_tables.log",
    benchmark:
        "<results>/benchmarks/write_tables.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 4000,
        runtime=cohort_minutes("write_tables"),
    params:
        results=results_folder,
        samples=config["write_tables"]["bootstrap_samples"],
        share="--share-tables" if config["write_tables"]["share_tables"] else "",
        seed=config["seed"],
        version=steps.VERSIONS["write_tables"],
    message:
        "Writing the tables"
    shell:
        "python -m paravert write_tables --cohort {params.results}/cohort --out {params.results}/tables {params.share}"
        " --bootstrap-samples {params.samples} --seed {params.seed} 2> {log}"


rule draw_figures:
    input:
        tables=expand("<results>/cohort/{table}.parquet", table=COHORT),
        models=expand(
            "<results>/tables/{table}.csv",
            table=("adjusted_means", "site_effects", "specification_curve"),
        ),
        centiles="<results>/tables/centiles.parquet",
        model=ancient(model_file()),
        card=model_card(),
    output:
        [
            captioned(f"<results>/figures/{name}.svg", figure, "Figures")
            for name, figure in outputs.FIGURES.items()
        ],
        expand("<results>/figures/{name}.{kind}", name=outputs.FIGURES, kind=("png", "csv")),
    log:
        "<results>/logs/draw_figures.log",
    benchmark:
        "<results>/benchmarks/draw_figures.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 4000,
        runtime=cohort_minutes("draw_figures"),
    params:
        results=results_folder,
        seed=config["seed"],
        version=steps.VERSIONS["draw_figures"],
    message:
        "Drawing the figures"
    shell:
        "python -m paravert draw_figures --cohort {params.results}/cohort --folder {params.results}/subjects"
        " --model {input.model:q} --tables {params.results}/tables --out {params.results}/figures"
        " --seed {params.seed} 2> {log}"


rule write_report:
    input:
        cohort=expand("<results>/cohort/{table}.parquet", table=COHORT),
        tables=expand(
            "<results>/tables/{table}.csv", table=(*outputs.TABLES, *outputs.MODEL_TABLES)
        ),
        centiles="<results>/tables/centiles.parquet",
        change=["<results>/tables/change.csv"] if HAS_VISITS else [],
        figures=expand("<results>/figures/{figure}.png", figure=outputs.FIGURES),
        review=expand("<results>/review/{table}.csv", table=("failures", "raters")),
        previews=shard_outputs("draw_preview"),
        configuration="<results>/cohort/configuration.yaml",
    output:
        "<results>/report.html",
    log:
        "<results>/logs/write_report.log",
    benchmark:
        "<results>/benchmarks/write_report.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 2000,
        runtime=cohort_minutes("write_report"),
    params:
        results=results_folder,
        study_name=study_name,
        texts=report_texts,
        version=steps.VERSIONS["write_report"],
    message:
        "Writing the report"
    shell:
        "python -m paravert write_report --cohort {params.results}/cohort --tables {params.results}/tables"
        " --figures {params.results}/figures --folder {params.results}/subjects"
        " --review {params.results}/review --configuration {input.configuration} {params.study_name}"
        " --out {output} 2> {log}"


rule write_review:
    input:
        cohort=expand("<results>/cohort/{table}.parquet", table=COHORT),
        previews=shard_outputs("draw_preview"),
        ratings=config["review"]["ratings"],
    output:
        page="<results>/review/index.html",
        to_correct="<results>/review/to_correct.csv",
        raters="<results>/review/raters.csv",
        reading_list="<results>/review/reading_list.csv",
        failures="<results>/review/failures.csv",
        data=directory("<results>/review/data"),
    log:
        "<results>/logs/write_review.log",
    benchmark:
        "<results>/benchmarks/write_review.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 2000,
        runtime=cohort_minutes("write_review"),
    params:
        results=results_folder,
        study_name=study_name,
        ratings=options("ratings", config["review"]["ratings"]),
        rating_rule=config["review"]["rule"],
        sample=config["review"]["sample"],
        seed=config["seed"],
        doubtful_iou=config["flags"]["section_iou"],
        texts=report_texts,
        version=steps.VERSIONS["write_review"],
    message:
        "Writing the review page"
    shell:
        "python -m paravert write_review --cohort {params.results}/cohort --folder {params.results}/subjects"
        " {params.study_name} {params.ratings} --rating-rule {params.rating_rule} --sample {params.sample}"
        " --seed {params.seed} --doubtful-iou {params.doubtful_iou} --out {params.results}/review 2> {log}"
