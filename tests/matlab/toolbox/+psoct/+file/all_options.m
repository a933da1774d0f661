function opts = all_options(spectral, surface, enface, acquisition, output, volume)
% Given options over the defaults, field by field; unknown fields are errors.
  opts.spectral = over(struct('dispCompFile', '', 'AlineSize', 200, 'BlineSize', 350, ...
    'isRawFormat', false), spectral);
  opts.surface = over(struct('Spec', 'gradient', 'Args', {{}}), surface);
  compute = struct('aip', true, 'mip', true, 'ret', true, 'ori', true, 'biref', true);
  opts.enface = over(struct('Offset', 0, 'Depth', 70, 'OriMethod', 'circularMean', ...
    'OriMethodArgs', struct(), 'BirefMethod', 'legacy', 'BirefMethodArgs', struct(), ...
    'Compute', compute, 'Save2DAs3D', true), enface);
  opts.enface.Compute = over(compute, opts.enface.Compute);
  opts.acquisition = over(struct('PixelDimensionsUm', [10 10 2.5], 'WavelengthUm', 0.0013, ...
    'SliceThicknessUm', 500), acquisition);
  over(struct('Paths', struct(), 'InfoLike', struct()), output);
  opts.volume = over(struct('flipPhase', false, 'phaseOffset', 100 / 180 * pi, 'flipZ', true), ...
    volume);
end

function all = over(all, given)
  names = fieldnames(given);
  for k = 1:numel(names)
    if ~isfield(all, names{k})
      error('psoct:options', 'unknown field %s', names{k});
    end
    all.(names{k}) = given.(names{k});
  end
end
