rule convert_complex:
    input:
        ancient(f"{BATCH}.ready"),
    output:
        f"{BATCH}.complex",
    log:
        "logs/convert_complex/mosaic-{mosaic}_batch-{batch}.log",
    benchmark:
        "benchmarks/convert_complex/mosaic-{mosaic}_batch-{batch}.tsv"
    conda:
        "../envs/opticstream.yaml"
    threads: PROJECT.config.run.tile_threads
    resources:
        mem_mb=PROJECT.memory_mb("convert_complex"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage convert_complex --config {params.config:q} --mosaic {wildcards.mosaic}"
        " --batch {wildcards.batch} --threads {threads} > {log:q} 2>&1"


rule process_tiles:
    input:
        tile_input,
    output:
        f"{BATCH}.processed",
    log:
        "logs/process_tiles/mosaic-{mosaic}_batch-{batch}.log",
    benchmark:
        "benchmarks/process_tiles/mosaic-{mosaic}_batch-{batch}.tsv"
    conda:
        "../envs/opticstream.yaml"
    threads: PROJECT.tile_threads("process_tiles")
    resources:
        mem_mb=PROJECT.memory_mb("process_tiles"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage process_tiles --config {params.config:q} --mosaic {wildcards.mosaic}"
        " --batch {wildcards.batch} --threads {threads} > {log:q} 2>&1"


rule qc_tiles:
    input:
        f"{BATCH}.processed",
    output:
        f"{BATCH}.qc",
        report(
            "report/mosaic-{mosaic}_batch-{batch}.jpg",
            category="Tiles",
            labels={"mosaic": "{mosaic}", "batch": "{batch}"},
            caption="captions/tiles.rst",
        ),
    log:
        "logs/qc_tiles/mosaic-{mosaic}_batch-{batch}.log",
    benchmark:
        "benchmarks/qc_tiles/mosaic-{mosaic}_batch-{batch}.tsv"
    conda:
        "../envs/opticstream.yaml"
    resources:
        mem_mb=PROJECT.memory_mb("qc_tiles"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage qc_tiles --config {params.config:q} --mosaic {wildcards.mosaic}"
        " --batch {wildcards.batch} > {log:q} 2>&1"


# Beside all others: nothing is made from it, and it is made from the raw files alone.
rule archive_batch:
    input:
        ancient(f"{BATCH}.ready"),
    output:
        f"{BATCH}.archived",
    log:
        "logs/archive_batch/mosaic-{mosaic}_batch-{batch}.log",
    benchmark:
        "benchmarks/archive_batch/mosaic-{mosaic}_batch-{batch}.tsv"
    conda:
        "../envs/opticstream.yaml"
    threads: PROJECT.config.run.archive_threads
    resources:
        mem_mb=PROJECT.memory_mb("archive_batch"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage archive_batch --config {params.config:q} --mosaic {wildcards.mosaic}"
        " --batch {wildcards.batch} --threads {threads} > {log:q} 2>&1"
