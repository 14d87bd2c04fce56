# The network: training on manual masks or synthetic slices, and segmentation.
#   NEEDS  convert.parquet and the stacks of its subjects; for segmentation the configured model
#   MAKES  per shard segment.parquet, levels.parquet; per subject labels/; results/models/


rule segment_muscles:
    input:
        convert=table_before("segment_muscles"),
        model=ancient(model_file()),
    output:
        "<results>/shards/{shard}/segment.parquet",
    log:
        "<results>/logs/segment_muscles/{shard}.log",
    benchmark:
        "<results>/benchmarks/segment_muscles/{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 8
    resources:
        mem_mb=memory_mb("segment_muscles"),
        runtime=minutes("segment_muscles"),
    params:
        results=results_folder,
        sha256=config["model"]["sha256"],
        device=config["segment_muscles"]["device"],
        flip="" if config["segment_muscles"]["flip"] else "--no-flip",
        neighbours_mm=config["segment_muscles"]["neighbours_mm"],
        largest="" if config["segment_muscles"]["keep_largest"] else "--no-keep-largest",
        holes="" if config["segment_muscles"]["fill_holes"] else "--no-fill-holes",
        version=steps.VERSIONS["segment_muscles"],
    message:
        "Segmenting shard {wildcards.shard}"
    shell:
        "python -m paravert segment_muscles --convert {input.convert} --folder {params.results}/subjects"
        " --model {input.model:q} --model-sha256 {params.sha256} --device {params.device}"
        " {params.flip} --neighbours-mm {params.neighbours_mm} {params.largest} {params.holes}"
        " --threads {threads} --out {output} 2> {log}"


rule find_levels:
    input:
        segment=table_before("find_levels"),
        model=ancient(levels_model()),
        axial_model=ancient(axial_model()),
    output:
        "<results>/shards/{shard}/levels.parquet",
    log:
        "<results>/logs/find_levels/{shard}.log",
    benchmark:
        "<results>/benchmarks/find_levels/{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 4
    resources:
        mem_mb=memory_mb("find_levels"),
        runtime=minutes("find_levels"),
    params:
        results=results_folder,
        sheet=RUN_SHEET,
        model=lambda wildcards, input: options("model", input.model)
        + " "
        + options("model-sha256", filter(None, [config["find_levels"]["sha256"]])),
        axial_model=lambda wildcards, input: options("axial-model", input.axial_model)
        + " "
        + options("axial-sha256", filter(None, [config["find_levels"]["axial_sha256"]])),
        version=steps.VERSIONS["find_levels"],
    message:
        "Finding the vertebral levels of shard {wildcards.shard}"
    shell:
        "python -m paravert find_levels --segment {input.segment} --sheet {params.sheet:q}"
        " --folder {params.results}/subjects {params.model} {params.axial_model} --out {output}"
        " --workers {threads} 2> {log}"


rule train_network:
    input:
        convert=shard_outputs("convert_dicom"),
        start=start_model("train_network"),
    output:
        model=model_files(config["train_network"]["name"], "safetensors"),
        beside=model_files(
            config["train_network"]["name"],
            "json",
            "yaml",
            "curve.csv",
            "curve.png",
            "split.csv",
        ),
    log:
        "<results>/logs/train_network.log",
    benchmark:
        "<results>/benchmarks/train_network.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 16
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 16000,
        runtime=lambda wildcards, attempt: attempt * 720,
    params:
        results=results_folder,
        sheet=RUN_SHEET,
        subjects_per_shard=config["subjects_per_shard"],
        subjects=lambda wildcards: options("subjects", filter(None, [str(config["subjects"])])),
        settings=lambda wildcards: training_settings("train_network"),
        start_split=start_split("train_network"),
        version=steps.VERSIONS["train_network"],
    message:
        "Training the network"
    shell:
        "python -m paravert train_network --sheet {params.sheet:q} --shards {params.results}/shards"
        " --subjects-per-shard {params.subjects_per_shard} {params.subjects}"
        " --folder {params.results}/subjects --out {output.model} --settings {params.settings:q}"
        " --threads {threads}"
        " 2> >(tee {log} >&2)"


rule pretrain_network:
    input:
        anatomies="<results>/anatomies/training.parquet",
        validation="<results>/anatomies/validation.parquet",
        start=start_model("pretrain_network"),
    output:
        model=model_files(config["pretrain_network"]["name"], "safetensors"),
        beside=model_files(
            config["pretrain_network"]["name"],
            "json",
            "yaml",
            "curve.csv",
            "curve.png",
            "reliability.csv",
            "reliability.png",
        ),
    log:
        "<results>/logs/pretrain_network.log",
    benchmark:
        "<results>/benchmarks/pretrain_network.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 16
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 16000,
        runtime=lambda wildcards, attempt: attempt * 1440,
    params:
        settings=lambda wildcards: training_settings("pretrain_network"),
        start_split=start_split("pretrain_network"),
        drawing=lambda wildcards, threads: max(1, threads // 4),  # drawing takes less time than training
        version=steps.VERSIONS["pretrain_network"],
    message:
        "Training a network on synthetic slices"
    shell:
        "python -m paravert pretrain_network --anatomies {input.anatomies}"
        " --validation {input.validation} --out {output.model} --settings {params.settings:q}"
        " --threads {threads} --workers {params.drawing} 2> >(tee {log} >&2)"


rule train_levels:
    output:
        model=model_files("levels", "safetensors"),
        beside=model_files("levels", "json", "yaml", "curve.csv"),
    log:
        "<results>/logs/train_levels.log",
    benchmark:
        "<results>/benchmarks/train_levels.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 6
    resources:
        mem_mb=lambda wildcards, threads, attempt: attempt * (500 + 700 * threads),
        runtime=lambda wildcards, attempt: attempt * 240,
    params:
        seed=config["train_levels"]["seed"],
        batches=config["train_levels"]["batches"],
        minutes=config["train_levels"]["minutes"],
        rate=config["train_levels"]["learning_rate"],
        version=steps.VERSIONS["train_levels"],
    message:
        "Training the network that finds discs in sagittal images"
    shell:
        "python -m paravert train_levels --out {output.model} --seed {params.seed}"
        " --batches {params.batches} --minutes {params.minutes} --learning-rate {params.rate}"
        " --workers {threads} 2> >(tee {log} >&2)"


rule train_axial_levels:
    input:
        anatomies="<results>/anatomies/training.parquet",
        validation="<results>/anatomies/validation.parquet",
    output:
        model=model_files("levels_axial", "safetensors"),
        beside=model_files("levels_axial", "json", "yaml", "curve.csv"),
    log:
        "<results>/logs/train_axial_levels.log",
    benchmark:
        "<results>/benchmarks/train_axial_levels.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 6
    resources:
        mem_mb=lambda wildcards, threads, attempt: attempt * (2000 + 1200 * threads),
        runtime=lambda wildcards, attempt: attempt * 240,
    params:
        seed=config["train_axial_levels"]["seed"],
        batches=config["train_axial_levels"]["batches"],
        minutes=config["train_axial_levels"]["minutes"],
        rate=config["train_axial_levels"]["learning_rate"],
        version=steps.VERSIONS["train_axial_levels"],
    message:
        "Training the network that finds the level of an axial slice"
    shell:
        "python -m paravert train_axial_levels --anatomies {input.anatomies} --validation {input.validation}"
        " --out {output.model} --seed {params.seed} --batches {params.batches} --minutes {params.minutes}"
        " --learning-rate {params.rate} --workers {threads} 2> >(tee {log} >&2)"
