#!/bin/sh
# The main job on a synthetic acquisition: raw tiles to registered slices and volumes. Run by `make demo`.
set -eu

config=demo/project.yaml
mkdir -p demo
[ -f "$config" ] || cp config/demo.yaml "$config"

echo "== simulating two slices into demo/raw"
optic-trigger simulate psoct --config "$config" --out demo/raw --slices 2 --workers "$(getconf _NPROCESSORS_ONLN)" \
  2>demo/simulate.log || { cat demo/simulate.log >&2; exit 1; }
echo "== marking complete batches as ready"
optic-trigger scan --config "$config" --assume-stable
echo "== raw tiles to registered slices and volumes"
snakemake --profile zircon --configfile "$config" --quiet rules host reason
echo "== report"
snakemake --profile zircon --configfile "$config" --quiet all \
  --report "$PWD/demo/project/report/report.html"
optic-trigger dag --config "$config" -o demo/project/report/dag.svg
echo "== compared with the truth of the simulation"
optic-trigger simulate compare --config "$config"

[ -f config/project.yaml ] || cp "$config" config/project.yaml

cat <<END

Where to look:
  mosaic        demo/project/mosaic-01/stitched/mosaic_001_aip.jpg
  overview      demo/project/report/mosaic-01.jpg, slice-01.jpg
  3-D axis      demo/project/registered/slice-01_3daxis.jpg
  volumes       demo/project/mosaic-01/stitched/mosaic_001_dBI.ome.zarr, _R3D, _O3D
  focus plane   demo/project/report/focus-normal.jpg
  report        demo/project/report/report.html
  pipeline      demo/project/report/dag.svg

Run it again yourself (config/project.yaml names this demo unless you have your own):
  . .venv/bin/activate && snakemake --profile zircon
END
