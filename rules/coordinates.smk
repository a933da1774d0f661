rule solve_coordinates:
    input:
        template_batches,
    output:
        "state/tilemap-{acquisition}.solved",
    log:
        "logs/solve_coordinates/{acquisition}.log",
    benchmark:
        "benchmarks/solve_coordinates/{acquisition}.tsv"
    params:
        config=PROJECT.config_path,
    threads: PROJECT.config.run.stitch_threads
    conda:
        "../envs/opticstream.yaml"
    shell:
        "optic-stage solve_coordinates --config {params.config:q}"
        " --acquisition {wildcards.acquisition} --threads {threads} > {log:q} 2>&1"
