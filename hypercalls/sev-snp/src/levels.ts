/** How much of a guest is hidden from its host. @spec APM vol. 2, 15.34 to 15.36 */
export const SnpLevel = { Sev: 'sev', SevEs: 'sev-es', SevSnp: 'sev-snp' } as const;
export type SnpLevel = (typeof SnpLevel)[keyof typeof SnpLevel];
