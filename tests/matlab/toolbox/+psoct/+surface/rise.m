function s = rise(line, w, w2)
% The greatest difference of the means of w2 samples and of the w before them.
  s = 1;
  L = sum(line > 0.01);
  if L <= w + w2
    return
  end
  radius = 10;
  kernel = exp(-(-radius:radius)' .^ 2 / (2 * 5 ^ 2));
  padded = [repmat(line(1), radius, 1); line(1:L); repmat(line(L), radius, 1)];
  d = conv(padded, kernel / sum(kernel), 'valid');
  sums = [0; cumsum(d)];
  k = (1:L - w - w2 + 1)';
  g = (sums(k + w + w2) - sums(k + w)) / w2 - (sums(k + w) - sums(k)) / w;
  [~, best] = max(g);
  s = best + w;
end
