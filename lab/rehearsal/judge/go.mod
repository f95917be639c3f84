module crossfade/judge

go 1.19
