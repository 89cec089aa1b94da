-- Drops a dead letter. ARGV: id. Answers 1, or 0 if there is none.

return exhume(ARGV[1]) and 1 or 0
