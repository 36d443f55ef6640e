/* The least that a static C program takes: what starting a keep is compared with. */
int main(void) {
    return 0;
}
