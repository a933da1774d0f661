# Path patterns and input functions. Nothing here looks into raw folders.
BATCH = "mosaic-{mosaic}/state/batch-{batch}"
MOSAIC = "mosaic-{mosaic}/state/mosaic-{mosaic}"


wildcard_constraints:
    mosaic=r"\d+",
    batch=r"\d+",
    slice=r"\d+",
    acquisition=r"[A-Za-z]+",
    modality="dBI|R3D|O3D|stitched",


def all_targets(wildcards):
    """Every flag that can be asked for now, each by itself, and the report's pictures."""
    for message in PLAN.waiting():
        logger.warning(message)
    return PLAN.targets()


def tile_input(wildcards):
    """What a batch is processed from: its complex tiles, or the raw tiles themselves."""
    if PROJECT.makes_complex:
        return f"{BATCH}.complex"
    return ancient(f"{BATCH}.ready")


def template_batches(wildcards):
    """Batches that a template is solved from.

    Downstream of a batch ends at the template: once it is solved, nothing leads back to batches,
    unless everything is forced.
    """
    if PROJECT.layout.tilemap_flag(wildcards.acquisition).exists() and not PROJECT.force_all:
        return []
    mosaics = PLAN.template_mosaics(wildcards.acquisition)
    return [flag for mosaic in mosaics for flag in PROJECT.batch_flags(mosaic, "processed")]


def mosaic_batches(wildcards):
    """Every batch that a mosaic is made from, processed."""
    return PROJECT.batch_flags(int(wildcards.mosaic), "processed")


def mosaic_template(wildcards):
    """Flag of the template of a mosaic's acquisition."""
    return PROJECT.template_flag(int(wildcards.mosaic))


def mosaic_coordinates(wildcards):
    """Flag of the coordinates that a mosaic is stitched with."""
    return PROJECT.coordinates_flag(int(wildcards.mosaic))


def focus_batches(wildcards):
    """Batches that a focus plane is fitted from, as for the template it is fitted with."""
    if PROJECT.layout.focus_flag(wildcards.acquisition).exists() and not PROJECT.force_all:
        return []
    mosaic = PLAN.template_mosaic(wildcards.acquisition)
    return [] if mosaic is None else PROJECT.batch_flags(mosaic, "processed")


def volume_inputs(wildcards):
    """What a volume is made from; for the flag that all are there, the volumes."""
    return PROJECT.volume_inputs(int(wildcards.mosaic), wildcards.modality)


def volume_focus(wildcards):
    """Flag of the focus plane that a volume is stitched along."""
    return PROJECT.focus_flags(int(wildcards.mosaic), wildcards.modality)


def slice_mosaics(wildcards):
    """Every mosaic of a slice, stitched."""
    return PROJECT.mosaic_flags(int(wildcards.slice), "stitched")
