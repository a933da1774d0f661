function spectral2processed_batch_indexed(files, outDir, mosaicId, indices, spectral, surface, ...
    enface, acquisition, output, volume, optsMatFile, numWorkers, poolType)
% Raw spectral tiles to volumes and maps; a tile that fails only warns.
  opts = psoct.file.all_options(spectral, surface, enface, acquisition, output, volume);
  psoct.file.check_pool(optsMatFile, numWorkers, poolType);
  psoct.file.each_tile(files, outDir, mosaicId, indices, opts, @read);
  function [J1, J2] = read(file)
    [J1, J2] = psoct.spectral.spectral2complex(file, opts.spectral);
  end
end
