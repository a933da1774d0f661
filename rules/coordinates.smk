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
