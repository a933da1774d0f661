rule stitch_enface:
    input:
        batches=mosaic_batches,
        coordinates=mosaic_coordinates,
        template=ancient(mosaic_template),
    output:
        f"{MOSAIC}.stitched",
    log:
        "logs/stitch_enface/mosaic-{mosaic}.log",
    benchmark:
        "benchmarks/stitch_enface/mosaic-{mosaic}.tsv"
    conda:
        "../envs/opticstream.yaml"
    threads: PROJECT.config.run.stitch_threads
    resources:
        mem_mb=PROJECT.memory_mb("stitch_enface"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage stitch_enface --config {params.config:q} --mosaic {wildcards.mosaic}"
        " --threads {threads} > {log:q} 2>&1"


rule qc_mosaic:
    input:
        f"{MOSAIC}.stitched",
    output:
        report(
            "report/mosaic-{mosaic}.jpg",
            category="Mosaics",
            labels={"mosaic": "{mosaic}", "picture": "overview"},
            caption="captions/mosaic.rst",
        ),
        report(
            "report/mosaic-{mosaic}_coordinates.jpg",
            category="Mosaics",
            labels={"mosaic": "{mosaic}", "picture": "coordinates"},
            caption="captions/coordinates.rst",
        ),
    log:
        "logs/qc_mosaic/mosaic-{mosaic}.log",
    benchmark:
        "benchmarks/qc_mosaic/mosaic-{mosaic}.tsv"
    conda:
        "../envs/opticstream.yaml"
    resources:
        mem_mb=PROJECT.memory_mb("qc_mosaic"),
    params:
        config=PROJECT.config_path,
    shell:
        "optic-stage qc_mosaic --config {params.config:q} --mosaic {wildcards.mosaic}"
        " > {log:q} 2>&1"
