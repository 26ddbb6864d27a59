export * from './fpu/index.ts';
export * from './state/layout.ts';
export * from './state/registers.ts';
export * from './mmu/index.ts';
export * from './apic/index.ts';
