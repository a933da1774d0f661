function surf = each_line(dBI, method)
  surf = zeros(size(dBI, 1), size(dBI, 2));
  for y = 1:size(dBI, 2)
    for x = 1:size(dBI, 1)
      surf(x, y) = method(double(squeeze(dBI(x, y, :))));
    end
  end
end
