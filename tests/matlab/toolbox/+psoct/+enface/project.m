function maps = project(dBI, R3D, O3D, surf, opts, acquisition)
% Maps of a window below the surface, both ends included; single.
  [X, Y, Z] = size(dBI);
  names = {'aip', 'mip', 'ret', 'ori', 'biref'};
  for name = names
    if opts.Compute.(name{1})
      maps.(name{1}) = zeros(X, Y, 'single');
    end
  end
  if ~opts.Compute.ori
    error('psoct:enface', 'outputs without ori are not defined');  % as in one of its versions
  end
  for y = 1:Y
    for x = 1:X
      first = min(Z, max(1, surf(x, y) + opts.Offset));
      window = first:min(Z, first + opts.Depth);
      b = dBI(x, y, window)(:);
      r = R3D(x, y, window)(:);
      o = double(O3D(x, y, window)(:)) / 180 * pi;
      b = b(~isnan(b));
      if isfield(maps, 'aip'), maps.aip(x, y) = mean(double(b)); end
      if isfield(maps, 'mip'), maps.mip(x, y) = max(b); end
      if isfield(maps, 'ret'), maps.ret(x, y) = mean(double(r(~isnan(r)))); end
      if strcmp(opts.OriMethod, 'circularMean')
        maps.ori(x, y) = 0.5 * atan2(sum(sin(2 * o)), sum(cos(2 * o))) * 180 / pi;
      else
        maps.ori(x, y) = mean(o(~isnan(o))) * 180 / pi;
      end
      if isfield(maps, 'biref')
        maps.biref(x, y) = birefringence(r, opts, acquisition);
      end
    end
  end
end

function slope = birefringence(r, opts, acquisition)
  zero = find(r == 0, 1);
  if ~isempty(zero)
    r = r(1:zero);
  end
  switch opts.BirefMethod
    case {'legacy', ''}
    case 'fft'
      if numel(r) >= 100
        error('psoct:biref', 'windows of 100 samples and more are not in this package');
      end
      r = r(1:min(end, round(opts.Offset + opts.Depth) - round(opts.Offset)));
    otherwise
      error('psoct:biref', 'unknown method %s', opts.BirefMethod);
  end
  opd = double(single(r) / single(360) * single(acquisition.WavelengthUm));
  slope = 0;
  if numel(opd) >= 3 && any(opd ~= 0)
    line = polyfit(acquisition.PixelDimensionsUm(3) * (0:numel(opd) - 1)', opd, 1);
    slope = line(1);
  end
end
