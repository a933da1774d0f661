function surf = locate(dBI, opts)
% 1-based index of the first sample of tissue: a number, a file, or a method of this package.
  if isnumeric(opts.Spec)
    surf = repmat(double(opts.Spec), size(dBI, 1), size(dBI, 2));
  elseif regexp(opts.Spec, '\.nii$')
    surf = single(psoct.nifti.read_nifti(opts.Spec));
    if size(surf, 1) ~= size(dBI, 1) || size(surf, 2) ~= size(dBI, 2) || size(surf, 3) ~= 1
      error('psoct:surface', '%s has another size', opts.Spec);
    end
  else
    method = str2func(['psoct.surface.' opts.Spec]);
    surf = method(dBI, opts.Args{:});
  end
end
