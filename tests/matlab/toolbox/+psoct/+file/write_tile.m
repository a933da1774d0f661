function write_tile(prefix, J1, J2, opts)
% Volumes, surface and maps of one tile.
  [dBI, R3D, O3D] = psoct.complex.complex2volumes(J1, J2, opts.volume);
  mm = opts.acquisition.PixelDimensionsUm / 1000;
  psoct.nifti.write_nifti([prefix '_dBI.nii'], dBI, mm);
  psoct.nifti.write_nifti([prefix '_R3D.nii'], R3D, mm);
  psoct.nifti.write_nifti([prefix '_O3D.nii'], O3D, mm);
  mm(3) = opts.acquisition.SliceThicknessUm / 1000;
  surf = psoct.surface.locate(dBI, opts.surface);
  surf = max(1, min(size(dBI, 3), round(surf)));
  psoct.nifti.write_nifti([prefix '_surf.nii'], surf, mm);
  maps = psoct.enface.project(dBI, R3D, O3D, surf, opts.enface, opts.acquisition);
  names = fieldnames(maps);
  for k = 1:numel(names)
    psoct.nifti.write_nifti([prefix '_' names{k} '.nii'], maps.(names{k}), mm);
  end
end
