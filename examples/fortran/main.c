/* Calls the Fortran function: f2c's Fortran needs no Fortran run-time library as long as C does the input and output.
 */
#include <math.h>
#include <stdio.h>

double simpsn_(double *a, double *b, int *n);

int main(void) {
    double a = 0, b = acos(-1);
    int n = 1000;
    printf("integral = %.9f\n", simpsn_(&a, &b, &n));
    return 0;
}
