function filtered = median3(map)
% 3 x 3 median, the map continued by its mirror image.
  padded = map([1 1:end end], [1 1:end end]);
  [X, Y] = size(map);
  neighbours = zeros(X, Y, 9);
  for k = 0:8
    neighbours(:, :, k + 1) = padded(mod(k, 3) + (1:X), floor(k / 3) + (1:Y));
  end
  filtered = median(neighbours, 3);
end
