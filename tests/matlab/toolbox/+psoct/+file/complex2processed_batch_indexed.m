function complex2processed_batch_indexed(files, outDir, mosaicId, indices, surface, ...
    enface, acquisition, output, volume, optsMatFile, numWorkers, poolType)
% Complex tiles to volumes and maps; a tile that fails only warns.
  opts = psoct.file.all_options(struct(), surface, enface, acquisition, output, volume);
  psoct.file.check_pool(optsMatFile, numWorkers, poolType);
  psoct.file.each_tile(files, outDir, mosaicId, indices, opts, @read);
  function [J1, J2] = read(file)
    V = psoct.nifti.read_nifti(file);
    if mod(size(V, 1), 4) ~= 0
      error('psoct:shape', 'the first dimension of %s is %d, not a multiple of 4', file, size(V, 1));
    end
    X = size(V, 1) / 4;
    J1 = complex(V(1:X, :, :), V(X+1:2*X, :, :));
    J2 = complex(V(2*X+1:3*X, :, :), V(3*X+1:4*X, :, :));
  end
end
