function surf = gradientThreshold(dBI, n, threshold, windowSize, kernelSize)
% As gradient; A-lines that begin bright begin in tissue.
  if nargin < 2, n = 20; end
  if nargin < 3, threshold = 55; end
  if nargin < 4, windowSize = 5; end
  if nargin < 5, kernelSize = 5; end
  surf = psoct.surface.median3(psoct.surface.each_line(dBI, @find_one));
  function s = find_one(line)
    L = sum(line > 0.01);
    if L > 0 && mean(line(1:min(n, L))) >= threshold
      s = find(line(1:L) >= threshold, 1);
    else
      s = psoct.surface.rise(line, windowSize, kernelSize);
    end
  end
end
