function write_nifti(file, array, mm)
% Minimal NIfTI-1; maps are saved as (X, Y, 1).
  if isa(array, 'single')
    code = 16; bits = 32; type = 'single';
  else
    code = 64; bits = 64; type = 'double';
  end
  dim = [3 size(array, 1) size(array, 2) size(array, 3) 1 1 1 1];
  fid = fopen(file, 'w', 'l');
  if fid < 0
    error('psoct:write', 'cannot write %s', file);
  end
  fwrite(fid, 348, 'int32');
  fwrite(fid, zeros(1, 36), 'uint8');
  fwrite(fid, dim, 'int16');
  fwrite(fid, zeros(1, 14), 'uint8');
  fwrite(fid, [code bits 0], 'int16');
  fwrite(fid, [1 mm(:)' 0 0 0 0 352 1 0], 'single');  % pixdim, offset of the data, scaling
  fwrite(fid, zeros(1, 348 - 120 - 4), 'uint8');
  fwrite(fid, [double('n+1') 0], 'uint8');
  fwrite(fid, zeros(1, 4), 'uint8');
  written = fwrite(fid, array, type);
  fclose(fid);
  if written < numel(array)
    error('psoct:write', 'cannot write all of %s', file);
  end
end
