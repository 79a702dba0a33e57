"""What ``msd doctor`` looks at, one file each; free of torch, which only child processes load."""
