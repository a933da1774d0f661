function array = read_nifti(file)
% Minimal NIfTI-1: single or double, little-endian, uncompressed, not scaled.
  fid = fopen(file, 'r', 'l');
  if fid < 0
    error('psoct:read', 'cannot open %s', file);
  end
  header = fread(fid, 348, '*uint8');
  dim = double(typecast(header(41:56), 'int16'))';
  code = typecast(header(71:72), 'int16');
  offset = double(typecast(header(109:112), 'single'));
  shape = [dim(2:1 + dim(1)) 1];
  types = {16, '*single'; 64, '*double'};
  type = types{[types{:, 1}] == code, 2};
  fseek(fid, offset, 'bof');
  array = fread(fid, prod(shape), type);
  fclose(fid);
  if numel(array) < prod(shape)
    error('psoct:read', '%s ends after %d of %d values', file, numel(array), prod(shape));
  end
  array = reshape(array, shape);
end
