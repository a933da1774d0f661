rule register_slice:
    input:
        slice_mosaics,
    output:
        "state/slice-{slice}.registered",
    log:
        "logs/register_slice/slice-{slice}.log",
    benchmark:
        "benchmarks/register_slice/slice-{slice}.tsv"
    conda:
        "../envs/opticstream.yaml"
    threads: PROJECT.config.run.register_threads
    resources:
        mem_mb=PROJECT.memory_mb("register_slice"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage register_slice --config {params.config:q} --slice {wildcards.slice}"
        " --threads {threads} > {log:q} 2>&1"


rule qc_slice:
    input:
        "state/slice-{slice}.registered",
    output:
        report(
            "report/slice-{slice}.jpg",
            category="Slices",
            labels={"slice": "{slice}", "picture": "overview"},
            caption="captions/slice.rst",
        ),
    log:
        "logs/qc_slice/slice-{slice}.log",
    benchmark:
        "benchmarks/qc_slice/slice-{slice}.tsv"
    conda:
        "../envs/opticstream.yaml"
    resources:
        mem_mb=PROJECT.memory_mb("qc_slice"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage qc_slice --config {params.config:q} --slice {wildcards.slice} > {log:q} 2>&1"
