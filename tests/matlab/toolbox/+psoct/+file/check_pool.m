function check_pool(optsMatFile, numWorkers, poolType)
% What only MATLAB can do anything with is at least what it should be.
  if ~isempty(optsMatFile) || ~(isempty(numWorkers) || numWorkers >= 1) ...
      || ~any(strcmp(poolType, {'process', 'thread'}))
    error('psoct:pool', 'options file, workers or kind of pool are wrong');
  end
end
