## The longest Collatz sequence that starts below a bound.
import os, strutils

proc length(start: int64): int =
  var n = start
  result = 1
  while n != 1:
    n = if n mod 2 == 0: n div 2 else: 3 * n + 1
    inc result

let bound = if paramCount() > 0: parseInt(paramStr(1)) else: 10000
var best, bestLength = 0
for start in 1 ..< bound:
  let l = length(start)
  if l > bestLength:
    best = start
    bestLength = l
echo best, " takes ", bestLength, " steps"
