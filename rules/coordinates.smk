rule solve_coordinates:
    input:
        template_batches,
    output:
        "state/tilemap-{acquisition}.solved",
    log:
        "logs/solve_coordinates/{acquisition}.log",
    benchmark:
        "benchmarks/solve_coordinates/{acquisition}.tsv"
    conda:
        "../envs/opticstream.yaml"
    threads: PROJECT.config.run.stitch_threads
    resources:
        mem_mb=PROJECT.memory_mb("solve_coordinates"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage solve_coordinates --config {params.config:q}"
        " --acquisition {wildcards.acquisition} --threads {threads} > {log:q} 2>&1"


# The same stage at each mosaic: how far it lies from the template, and what it is stitched with.
rule solve_mosaic_coordinates:
    input:
        batches=mosaic_batches,
        template=ancient(mosaic_template),
    output:
        f"{MOSAIC}.coordinates",
    log:
        "logs/solve_coordinates/mosaic-{mosaic}.log",
    benchmark:
        "benchmarks/solve_coordinates/mosaic-{mosaic}.tsv"
    conda:
        "../envs/opticstream.yaml"
    threads: PROJECT.config.run.stitch_threads
    resources:
        mem_mb=PROJECT.memory_mb("solve_coordinates"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage solve_coordinates --config {params.config:q} --mosaic {wildcards.mosaic}"
        " --threads {threads} > {log:q} 2>&1"
