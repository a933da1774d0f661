function [J1, J2] = spectral2complex(file, opts)
% Spectra of two cameras to Jones components (A-line, B-line, depth), depth as transformed.
  N = 2048;
  X = double(opts.AlineSize);
  Y = double(opts.BlineSize);
  cal = load(which('wave-pixel.mat'));
  waves = double(cal.wave_prime(:));
  lambda = zeros(N, 2);
  for c = 1:2
    lambda(:, c) = polyval(polyfit(double(cal.mu(:, c)), waves, 1), (1:N)') * 1e-9;
  end
  k = linspace(2 * pi / min(lambda(N, :)), 2 * pi / max(lambda(1, :)), N);
  even = 2 * pi ./ k(end:-1:1)';
  correction = exp(-1i * dispersion(opts.dispCompFile, N));
  raw = read_counts(file, opts.isRawFormat, N, X, Y);
  J = {complex(zeros(X, Y, N / 2 - 24)), complex(zeros(X, Y, N / 2 - 24))};
  signs = (-1) .^ (0:N-1)';
  for y = 1:Y
    for c = 1:2
      S = raw(:, :, c, y);
      if c == 2
        S = flipud(S);
      end
      B = S - mean(S, 2);
      % Zero padding by a factor of 1 halves the Nyquist bin of the first A-line only.
      B(:, 1) = B(:, 1) - 0.5 / N * sum(B(:, 1) .* signs) * signs;
      B = interp1(lambda(:, c), B, even, 'linear', 'extrap');
      B = (B - median(B, 2)) .* correction;
      F = fft(B);
      J{c}(:, y, :) = F(25:N/2, :)';
    end
  end
  [J1, J2] = J{:};
end

function phi = dispersion(file, N)
  if isempty(file)
    error('psoct:dispersion', 'this package has no dispersion file of its own');
  end
  fid = fopen(file, 'r', 'l');
  phi = fread(fid, Inf, 'double');
  fclose(fid);
  if numel(phi) ~= N
    error('psoct:dispersion', '%s has %d values', file, numel(phi));
  end
end

function raw = read_counts(file, isPacked, N, X, Y)
  count = N * X * 2 * Y;
  fid = fopen(file, 'r', 'l');
  if fid < 0
    error('psoct:read', 'cannot open %s', file);
  end
  if isPacked
    b = reshape(fread(fid, count / 2 * 3, 'uint8'), 3, []);
    values = [b(1, :) + 256 * mod(b(2, :), 16); floor(b(2, :) / 16) + 16 * b(3, :)];
  else
    fseek(fid, 352, 'bof');
    values = fread(fid, count, 'uint16');
  end
  fclose(fid);
  if numel(values) < count
    error('psoct:read', '%s ends after %d of %d counts', file, numel(values), count);
  end
  raw = reshape(values, N, X, 2, Y);
end
