function [dBI, R3D, O3D] = complex2volumes(J1, J2, opts)
% Intensity (dB), retardance and orientation (degrees), single.
  least = eps('single');
  dBI = 10 * log10(single(max(abs(J1) .^ 2 + abs(J2) .^ 2, least)));
  R3D = atan(single(abs(J1)) ./ single(max(abs(J2), least))) * single(180 / pi);
  phi = angle(J1) - angle(J2);
  if opts.flipPhase
    phi = -phi;
  end
  phi = phi + 2 * opts.phaseOffset;
  over = phi > pi;
  phi(over) = phi(over) - 2 * pi;
  under = phi < -pi;
  phi(under) = phi(under) + 2 * pi;
  O3D = single(phi / (2 * pi) * 180);
  if opts.flipZ
    dBI = flip(dBI, 3);
    R3D = flip(R3D, 3);
    O3D = flip(O3D, 3);
  end
end
