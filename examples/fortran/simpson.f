C     The integral of sin(x) from A to B by Simpson's rule with N pieces.
      DOUBLE PRECISION FUNCTION SIMPSN(A, B, N)
      DOUBLE PRECISION A, B, H, S
      INTEGER I, N
      H = (B - A) / N
      S = DSIN(A) + DSIN(B)
      DO 10 I = 1, N - 1
        IF (MOD(I, 2) .EQ. 1) THEN
          S = S + 4.0D0 * DSIN(A + I * H)
        ELSE
          S = S + 2.0D0 * DSIN(A + I * H)
        END IF
   10 CONTINUE
      SIMPSN = S * H / 3.0D0
      END
