function each_tile(files, outDir, mosaicId, indices, opts, read)
% Process tiles one after the other; as in the toolbox one that fails only warns.
  for k = 1:numel(files)
    stem = sprintf('mosaic_%03d_image_%04d', mosaicId, indices(k));
    try
      [J1, J2] = read(files{k});
      psoct.file.write_tile(fullfile(outDir, stem), J1, J2, opts);
      printf('%s done\n', stem);
      fflush(stdout);
    catch problem
      warning('psoct:tile', '%s failed: %s', stem, problem.message);
    end
  end
end
