function surf = gradient(dBI, windowSize, kernelSize)
% Strongest rise of each smoothed A-line, then a 3 x 3 median.
  if nargin < 2, windowSize = 5; end
  if nargin < 3, kernelSize = 5; end
  surf = psoct.surface.median3(psoct.surface.each_line(dBI, ...
    @(line) psoct.surface.rise(line, windowSize, kernelSize)));
end
