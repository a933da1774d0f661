"""psoct-toolbox in MATLAB or GNU Octave: its command strings, how it is run, what it leaves."""
