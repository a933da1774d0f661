# Below everything else: nothing is made from volumes, and they take long.
rule fit_focus:
    input:
        batches=focus_batches,
        template=ancient("state/tilemap-{acquisition}.solved"),
    output:
        "state/focus-{acquisition}.fitted",
    log:
        "logs/fit_focus/{acquisition}.log",
    benchmark:
        "benchmarks/fit_focus/{acquisition}.tsv"
    conda:
        "../envs/opticstream.yaml"
    threads: PROJECT.config.run.stitch_threads
    resources:
        mem_mb=PROJECT.memory_mb("fit_focus"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage fit_focus --config {params.config:q} --acquisition {wildcards.acquisition}"
        " --threads {threads} > {log:q} 2>&1"


rule stitch_volume:
    input:
        volume_inputs,
        ancient(volume_focus),
    output:
        f"{MOSAIC}.volume_{{modality}}",
    log:
        "logs/stitch_volume/mosaic-{mosaic}_{modality}.log",
    benchmark:
        "benchmarks/stitch_volume/mosaic-{mosaic}_{modality}.tsv"
    conda:
        "../envs/opticstream.yaml"
    threads: lambda wildcards: PROJECT.volume_threads(wildcards.modality)
    resources:
        mem_mb=lambda wildcards: PROJECT.volume_memory_mb(wildcards.modality),
    params:
        config=PROJECT.config_path,
        modality=lambda wildcards: PROJECT.volume_option(wildcards.modality),
    shell:
        "optic-stage stitch_volume --config {params.config:q} --mosaic {wildcards.mosaic}"
        " {params.modality} --threads {threads} > {log:q} 2>&1"


rule qc_focus:
    input:
        "state/focus-{acquisition}.fitted",
    output:
        report(
            "report/focus-{acquisition}.jpg",
            category="Focus planes",
            labels={"acquisition": "{acquisition}"},
            caption="captions/focus.rst",
        ),
    log:
        "logs/qc_focus/{acquisition}.log",
    benchmark:
        "benchmarks/qc_focus/{acquisition}.tsv"
    conda:
        "../envs/opticstream.yaml"
    resources:
        mem_mb=PROJECT.memory_mb("qc_focus"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage qc_focus --config {params.config:q} --acquisition {wildcards.acquisition}"
        " > {log:q} 2>&1"
