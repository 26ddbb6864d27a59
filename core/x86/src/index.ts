export * from './apic/index.ts';
export * from './fpu/index.ts';
export * from './mmu/index.ts';
export * from './state/index.ts';
export * from './sys/index.ts';
export * from './arch/index.ts';
export * from './exits.ts';
export * from './scripted/index.ts';
